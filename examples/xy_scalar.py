"""The chain rule on one gate: f = x y, its gradient, and one step of gradient descent.

A gate receives df/dq from the right (the gate gradient), multiplies it by its own dq/dx (the local
gradient), and hands the product to its input.  The picture, `xy_scalar.svg`, shows both.
"""

import minigrad

x = minigrad.scalar(4.0, name="x")
y = minigrad.scalar(-3.0, name="y")
f = x * y
f.name = "f"

f.backward()
print(f"f = {f.data:g}, df/dx = {x.grad:g}, df/dy = {y.grad:g}")

for edge in f.edges():
    print(
        f"along {edge.source.name}: gate gradient {edge.gate_gradient:g} x local gradient "
        f"{edge.local_gradient:g} = contribution {edge.contribution:g}"
    )

picture = minigrad.draw(f, title="f = x y")  # of the values as they are now

# Against the gradient f becomes smaller.
step = 0.01
x.data -= step * x.grad
y.data -= step * y.grad
print(f"after a step of {step}: f = {(x * y).data:.4f}")

picture.save("xy_scalar.svg")
