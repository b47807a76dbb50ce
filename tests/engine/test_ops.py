"""Every op, by its samples: value, dtype, and derivatives of first and second order.

The registry is what the modules of `minigrad.ops` and the names of `minigrad` hold: an op or
function that has no samples fails here by name.
"""

import functools
import importlib
import inspect
import itertools
import pkgutil
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad.ops
from minigrad import backend
from minigrad.core import Op
from minigrad.testing import View, check_op, same_values
from tests.engine.samples import SAMPLES

# Public names that are no operations on tensors; each has tests of its own.
NO_OPERATIONS = set(
    """
    Tensor Scalar Op GraphError no_grad enable_grad is_recording op tensor scalar manual_seed
    grad value_and_grad vjp jvp jacobian hessian hvp gradients checkpoint check_gradients
    capture CaptureError
    zeros ones full zeros_like ones_like full_like arange linspace eye device
    empty_memory memory_stats get_num_threads set_num_threads
    """.split()
)
BY_NAME = {sample.name: sample for sample in SAMPLES}
# There are a hundred ops: a smaller share of the profile's examples for each.
quick = settings(
    max_examples=settings.default.max_examples * 2 // 5, suppress_health_check=list(HealthCheck)
)


def engine_ops() -> dict[str, Op]:
    """Each op of the engine's modules, by where it stands."""
    found = {}
    for info in pkgutil.iter_modules(minigrad.ops.__path__, "minigrad.ops."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, Op):
                found.setdefault(id(value), (f"{info.name}.{name}", value))
    return dict(found.values())


def public_functions() -> set[str]:
    values = {name: getattr(mg, name) for name in mg.__all__}
    return {
        name
        for name, value in values.items()
        if callable(value) and not isinstance(value, ModuleType) and name not in NO_OPERATIONS
    }


@functools.cache
def ops_run_by_samples() -> set[int]:
    """Identities of the ops that compute when each sample runs once."""
    seen = set()

    def watch(proceed, op, args, params):
        seen.add(id(op))
        return proceed(op, args, params)

    for sample in SAMPLES:

        @settings(
            max_examples=8,
            phases=[Phase.generate],
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.just(sample), sample.arguments)
        def run(sample, drawn):
            arguments, params = drawn
            values = [mg.tensor(a.array) if isinstance(a, View) else a for a in arguments]
            values = [mg.tensor(a) if isinstance(a, np.ndarray) else a for a in values]
            with backend.interpose(watch), np.errstate(all="ignore"):
                sample.function(*values, **params)

        run()
    return seen


def missing_samples() -> list[str]:
    seen = ops_run_by_samples()
    found = [name for name, op in engine_ops().items() if id(op) not in seen]
    return sorted(found + [f"minigrad.{name}" for name in public_functions() - set(BY_NAME)])


def test_every_op_and_public_function_has_samples():
    assert missing_samples() == []


def test_an_op_without_samples_is_named(monkeypatch):
    from minigrad.ops import elementwise

    cube = mg.op("cube", lambda x: x**3, lambda g, x: g * 3 * x**2)
    monkeypatch.setattr(elementwise, "cube", cube, raising=False)
    monkeypatch.setattr(mg, "cube", cube, raising=False)
    monkeypatch.setattr(mg, "__all__", [*mg.__all__, "cube"])
    assert missing_samples() == ["minigrad.cube", "minigrad.ops.elementwise.cube"]


def test_names_of_samples_are_unique():
    assert len(BY_NAME) == len(SAMPLES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_value_and_derivatives(sample):
    @quick
    @given(sample.arguments)
    def run(drawn):
        arguments, params = drawn
        check_op(
            sample.function, sample.reference, *arguments, order=sample.order, rtol=1e-8, **params
        )

    run()


# --- dtypes --------------------------------------------------------------------------------------

PROMOTING = [sample for sample in SAMPLES if sample.promotes]
DTYPES = [np.dtype(d) for d in ("bool", "int8", "uint8", "int32", "int64", "f2", "f4", "f8")]


def number_of_inputs(sample) -> int:
    return len(sample.domains) or (1 if sample.name in ("isfinite isinf isnan logical_not") else 2)


def in_place_of(dtype, sample, i):
    """Two values of a dtype for the argument number `i`, inside the domain where that can be."""
    domain = sample.domains[i] if sample.domains else None
    values = [1.0, 1.0] if domain is None or domain.high > 1 else [0.5, 0.25]
    if domain is not None and domain.low > 2:
        values = [3.0, 2.5]
    return np.array(values).astype(dtype)


def agree_on_dtype(sample, *arguments):
    with np.errstate(all="ignore"):
        try:
            wanted = sample.reference(*[getattr(a, "_data", a) for a in arguments])
        except (TypeError, ValueError) as refusal:
            kind = TypeError if isinstance(refusal, TypeError) else ValueError
            with pytest.raises(kind):
                sample.function(*arguments)
            return
        found = sample.function(*arguments)
    assert found.dtype == wanted.dtype, f"{found.dtype} instead of {wanted.dtype}"
    same_values(found, wanted, 1e-2 if wanted.dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("sample", PROMOTING, ids=lambda sample: sample.name)
def test_any_dtype_is_promoted_as_by_numpy(sample):
    count = number_of_inputs(sample)
    for dtypes in itertools.product(DTYPES, repeat=count):
        arguments = [mg.tensor(in_place_of(d, sample, i)) for i, d in enumerate(dtypes)]
        agree_on_dtype(sample, *arguments)


@pytest.mark.parametrize(
    "sample", [s for s in PROMOTING if number_of_inputs(s) == 2], ids=lambda sample: sample.name
)
def test_python_numbers_are_weak(sample):
    for dtype, number in itertools.product(DTYPES, [1, 2, 1.5, True]):
        agree_on_dtype(sample, mg.tensor(in_place_of(dtype, sample, 0)), number)
        agree_on_dtype(sample, number, mg.tensor(in_place_of(dtype, sample, 1)))


REDUCING = "sum mean prod max min var std cumsum argmax argmin any all sort argsort".split()


@pytest.mark.parametrize("name", REDUCING)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reductions_give_the_dtype_that_numpy_gives(name, dtype):
    x = np.array([[1, 0, 3], [1, 2, 0]]).astype(dtype)
    for axis in (1, *([None] if name not in ("sort", "argsort") else [])):
        try:
            wanted = BY_NAME[name].reference(x, axis=axis)
        except TypeError:
            with pytest.raises(TypeError):
                BY_NAME[name].function(mg.tensor(x), axis=axis)
            return
        found = BY_NAME[name].function(mg.tensor(x), axis=axis)
        assert found.dtype == wanted.dtype
        same_values(found, wanted, 1e-2 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("name", ["multiply", "matmul", "where", "concatenate", "at_add", "power"])
def test_a_gradient_has_the_dtype_of_what_it_belongs_to(name):
    a = mg.tensor(np.ones((2, 2)), dtype=mg.float32, requires_grad=True)
    b = mg.tensor(np.ones((2, 2)), dtype=mg.float64, requires_grad=True)
    functions = {
        "multiply": mg.multiply,
        "matmul": mg.matmul,
        "power": mg.power,
        "where": lambda a, b: mg.where(np.array([True, False]), a, b),
        "concatenate": lambda a, b: mg.concatenate([a, b]),
        "at_add": lambda a, b: a.at[0].add(b[1]),
    }
    y = functions[name](a, b)
    assert y.dtype == mg.float64
    y.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (mg.float32, mg.float64)
    c = mg.tensor(np.ones((2, 2), np.int64))
    assert functions[name](a, c).requires_grad


# --- scalars -------------------------------------------------------------------------------------

ON_SCALARS = [
    s for s in SAMPLES if isinstance(s.function, Op) and s.function.scalar is not None and s.domains
]
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    -3.5,
    30.0,
    1e300,
    -1e300,
    1e-320,
    np.inf,
    -np.inf,
    np.nan,
]


def test_the_scalar_forms_are_tested():
    named = {s.function.name for s in ON_SCALARS}
    assert {op.name for op in engine_ops().values() if op.scalar is not None} - named == {"where"}


@pytest.mark.parametrize("sample", ON_SCALARS, ids=lambda sample: sample.name)
def test_scalars_have_numpys_values_and_never_raise(sample):
    for values in itertools.product(SPECIAL, repeat=len(sample.domains)):
        found = sample.function(*[mg.scalar(v) for v in values])
        with np.errstate(all="ignore"):
            wanted = sample.reference(*[np.float64(v) for v in values])
        assert isinstance(found.data, float)
        np.testing.assert_allclose(found.data, wanted, rtol=1e-11, err_msg=f"at {values}")
        # And the same on plain floats.
        plain = sample.function(*values)
        assert isinstance(plain, float | int)
        np.testing.assert_allclose(plain, wanted, rtol=1e-11, err_msg=f"at {values}")


@pytest.mark.parametrize("sample", ON_SCALARS, ids=lambda sample: sample.name)
@given(st.integers(0, 2**32 - 1))
@quick
def test_gradients_of_scalars_equal_those_of_tensors(sample, seed):
    rng = np.random.default_rng(seed)
    values = [float(domain.sample(rng, ())) for domain in sample.domains]

    def derivatives(inputs):
        y = sample.function(*inputs)
        first = mg.gradients(y, inputs, create_graph=True)
        live = [g for g in first if g.requires_grad]
        second = mg.gradients(live, inputs) if live else []
        return [float(g) for g in (y, *first, *second)]

    on_scalars = derivatives([mg.scalar(v) for v in values])
    on_tensors = derivatives([mg.tensor(np.array(v), requires_grad=True) for v in values])
    np.testing.assert_allclose(on_scalars, on_tensors, rtol=1e-9, atol=1e-12)

    # The walk of scalars, written out for floats, is the general walk.
    inputs = [mg.scalar(v) for v in values]
    sample.function(*inputs).backward()
    first = [x.grad for x in inputs]
    np.testing.assert_allclose(first, on_scalars[1 : 1 + len(inputs)], rtol=1e-12)


def test_signatures_name_the_arguments_that_numpy_names():
    """What NumPy code writes by keyword works here too."""
    for name in public_functions():
        function, reference = getattr(mg, name), getattr(np, name, None)
        if not inspect.isfunction(function) or reference is None or isinstance(reference, np.ufunc):
            continue
        for keyword in ("axis", "keepdims", "ddof", "axis1", "axis2", "offset"):
            ours, theirs = (inspect.signature(f).parameters for f in (function, reference))
            assert (keyword in ours) == (keyword in theirs), f"{name}: {keyword}"
