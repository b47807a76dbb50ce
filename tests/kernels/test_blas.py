"""Products keep BLAS to one thread only while they run; large ones are our own."""

import threading

import numpy as np
import pytest

from minigrad_nn.kernels import blas


def counts() -> list[int]:
    return [library.get_num_threads() for library in blas._libraries()]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Thread counts at each product, with two threads before, whatever the machine has."""
    for library in blas._libraries():
        library.set_num_threads(2)
    found: list[list[int]] = []
    real = np.matmul

    def matmul(*args: object) -> object:
        found.append(counts())
        return real(*args)

    monkeypatch.setattr(np, "matmul", matmul)
    return found


def test_small_products_take_one_thread(seen: list[list[int]]) -> None:
    before = counts()
    a, b = np.ones((130, 40), np.float32), np.ones((40, 50), np.float32)
    assert 2 * a.size * 50 > blas.TINY
    assert np.array_equal(blas.matmul(a, b), np.full((130, 50), 40.0))
    assert seen and all(set(count) <= {1} for count in seen)
    assert counts() == before


def test_large_products_are_the_kernels(
    seen: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "TINY", 5.0)
    monkeypatch.setattr(blas, "SMALL", 10.0)
    a, b = np.arange(12.0).reshape(3, 4), np.arange(20.0).reshape(4, 5)
    assert np.array_equal(blas.matmul(a, b), np.dot(a, b)) and not seen
    assert np.array_equal(blas.matmul(a[None], b), np.dot(a, b)[None]) and not seen
    out = np.empty((3, 5))
    assert blas.matmul(a, b, out) is out and np.array_equal(out, np.dot(a, b)) and not seen
    for other in (a.astype(int), a.astype(np.float32)):
        blas.matmul(other, b)
    assert len(seen) == 2, "what the kernel does not multiply is BLAS's"


def test_the_setting_is_back_after_an_error_and_after_threads() -> None:
    before = counts()
    with pytest.raises(ValueError, match="mismatch"):
        blas.matmul(np.ones((100, 100)), np.ones((99, 100)))
    assert counts() == before
    a = np.ones((70, 70))
    assert 2 * 70**3 > blas.TINY
    threads = [
        threading.Thread(target=lambda: [blas.matmul(a, a) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts() == before
