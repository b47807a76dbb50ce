"""All paths sum to the gradient; their number is exact; the largest are the largest."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad import study
from minigrad.core import Node
from tests.study.programs import scalar_programs, tensor_programs


def enumerate_routes(node, root):
    """Every route from the root down to a node, as tuples of (gate, position)."""
    if root is node:
        return [()]
    return [
        (*below, (root, i))
        for i, source in enumerate(root.inputs)
        if isinstance(source, Node) and root.needs[i]
        for below in enumerate_routes(node, source)
    ]


def product(route):
    """The local gradients along a route, multiplied from the loss down."""
    total = 1.0
    for gate, position in reversed(route):
        total = total * gate.pull(1.0, gate.needs, False)[position] if total else 0.0
    return total


@given(scalar_programs(), st.integers(1, 6))
def test_scalar_paths_sum_to_the_gradient_and_are_counted_exactly(program, top):
    leaves = program.make_leaves()
    loss = program.run(leaves)[-1]
    loss.backward()
    for x in leaves:
        routes = enumerate_routes(x, loss)
        if len(routes) > 2000:
            continue
        everything = study.paths(x, loss, top=None)
        assert everything.count == len(routes) == len(everything)
        products = [path.product for path in everything]
        scale = math.fsum(map(abs, products))
        assert abs(math.fsum(products) - (x.grad or 0.0)) <= 1e-12 * scale
        assert everything.gradient == (x.grad or 0.0)
        sizes = [path.size for path in everything]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes == sorted((abs(product(r)) for r in routes), reverse=True)
        best = study.paths(x, loss, top=top)
        assert [path.size for path in best] == sizes[:top] and best.count == len(routes)
        for path in best:
            assert path.nodes[0] is x and path.nodes[-1] is loss
            for (below, gate), i in zip(pairwise(path.nodes), path.positions, strict=True):
                assert gate.inputs[i] is below
            factors = path.local_gradients
            assert path.product == pytest.approx(math.prod(factors), rel=1e-12, abs=1e-300)


@given(tensor_programs())
def test_tensor_paths_sum_to_the_gradient(program):
    leaves = program.make_leaves()
    loss = program.run(leaves)[-1]
    found = {}
    for i, x in enumerate(leaves):
        try:
            found[i] = study.paths(x, loss, top=None)
        except ValueError as error:
            assert "routes" in str(error)
    loss.backward()
    for i, routes in found.items():
        x = leaves[i]
        if x.grad is None:
            assert routes.count == 0
            continue
        total = sum(path.product.values for path in routes)
        scale = sum(path.size for path in routes)
        assert np.abs(total - x.grad.numpy()).max() <= 1e-12 * scale + 1e-300
        assert len(routes) == routes.count
        sizes = [path.size for path in routes]
        assert sizes == sorted(sizes, reverse=True)


def test_more_routes_than_atoms():
    x = minigrad.scalar(1.0, name="x")
    h = x
    for _ in range(400):
        h = h * 0.5 + h * 0.25
    found = study.paths(x, h, top=3)
    assert found.count == 2**400
    assert found[0].product == 0.5**400
    assert found[1].product == found[2].product == 0.5**399 * 0.25
    h.backward()
    assert found.gradient == x.grad
    assert f"… {2**400 - 3} more" in str(found)


def test_inner_values_and_values_that_do_not_matter():
    x = minigrad.scalar(2.0, name="x")
    q = x * x
    f = q + x
    assert study.paths(q, f).count == 1
    assert study.paths(f, f)[0].product == 1.0
    other = minigrad.scalar(1.0)
    nothing = study.paths(other, f)
    assert nothing.count == 0 and len(nothing) == 0 and nothing.gradient == 0.0
    assert study.paths(x, f, gradient=3.0)[0].product == 6.0


def test_a_closed_gate_passes_nothing_on_any_route():
    x = minigrad.scalar(0.0)
    loss = minigrad.relu(minigrad.scalar(-1.0) * 1.0 + x.sqrt() * 0.0 - 1.0)
    assert [path.product for path in study.paths(x, loss)] == [0.0]


@pytest.mark.parametrize("top", [0, -1, 2.5])
def test_top_must_be_a_positive_number(top):
    x = minigrad.scalar(1.0)
    with pytest.raises(ValueError, match="top must be"):
        study.paths(x, x * x, top=top)


def test_a_tensor_graph_with_too_many_routes_is_refused():
    x = minigrad.tensor([1.0], requires_grad=True)
    h = x
    for _ in range(14):
        h = h * 0.5 + h
    with pytest.raises(ValueError, match="16,384 routes"):
        study.paths(x, h.sum())
