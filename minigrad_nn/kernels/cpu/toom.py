"""Fast short correlations by the algorithm of Cook and Toom, in exact fractions.

A filter of r taps and m outputs take `m·r` products by definition, and `m + r − 1` here: filter
and outputs are polynomials, evaluated at as many points, infinity among them, multiplied there,
and interpolated (S. Winograd, "Arithmetic complexity of computations", 1980).
"""

from __future__ import annotations

from fractions import Fraction


def matrices(
    out: int, taps: int, points: tuple[Fraction, ...]
) -> tuple[list[list[Fraction]], list[list[Fraction]], list[list[Fraction]]]:
    """Aᵀ, G and Bᵀ of F(out, taps), exactly: the algorithm of Cook and Toom.

    A filter and the outputs are polynomials that are evaluated at `points` and at infinity; Bᵀ is
    the transposed interpolation by Lagrange.

    >>> at, g, bt = matrices(2, 3, (Fraction(0), Fraction(1), Fraction(-1)))
    >>> [[str(number) for number in row] for row in g]
    [['-1', '0', '0'], ['1/2', '1/2', '1/2'], ['1/2', '-1/2', '1/2'], ['0', '0', '1']]
    """
    zero, one = Fraction(0), Fraction(1)
    at = [[p**i for p in points] + [one if i == out - 1 else zero] for i in range(out)]
    g, bt = [], []
    for p in points:
        others = [o for o in points if o != p]
        scale = one
        for o in others:
            scale *= p - o
        g.append([p**j / scale for j in range(taps)])
        bt.append([*_from_roots(others), zero])
    g.append([zero] * (taps - 1) + [one])
    bt.append(_from_roots(list(points)))
    return at, g, bt


def _from_roots(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of Π (x − root), that of x⁰ first."""
    result = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *result]
        result = [s - root * r for s, r in zip(shifted, [*result, Fraction(0)], strict=True)]
    return result
