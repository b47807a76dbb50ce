"""Register tiles: the innermost loops of convolution, written as vector instructions.

What LLVM makes of scalar loops reaches 10 to 40 % of a core's peak; a tile whose accumulators all
stay in registers reaches nearly all of it (Goto and van de Geijn, 2008). Numba's `@intrinsic`
emits such a tile with explicit vectors, and code made this way can be cached.

Two tiles serve all convolutions. `line_tile` computes `rows` outputs at `vectors` times W
neighbouring places; `dot_tile` computes the products of `rows` gradients with `vectors` shifted
inputs, W places at a time. Both read memory by offsets and check no bounds: their callers promise
that whole vectors can be read and written.

The vector width W and the number of vectors fit the processor's registers. `fmuladd` becomes a
fused multiply-add where the processor has one, and two instructions elsewhere.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic


def vector_shape(cpu: str, features: str) -> tuple[int, int]:
    """Bytes of a vector, and how many vectors a tile holds in each row, for a processor.

    A tile of 6 rows needs `6·vectors + vectors + 1` registers of the 16 or 32 that there are.
    Intel's processors with AVX-512 lower their clock for 64-byte vectors, and LLVM splits such
    vectors there, so only AMD's get them.
    """
    have = set(features.split(","))
    if "+avx512f" in have and "+avx512vl" in have:
        return (64, 4) if cpu.startswith("znver") else (32, 4)
    if "+avx" in have:
        return 32, 2
    if "+neon" in have:
        return 16, 4
    return 16, 2


_processor = cpu_target.target_context.codegen().magic_tuple()[1:]
VECTOR_BYTES, VECTORS = vector_shape(*_processor)
ROWS = 6
# Whether a load or store of some lanes costs no more than that of all.
masks_are_free = "+avx512vl" in _processor[1].split(",")


def lanes(itemsize: int) -> int:
    """W: how many numbers of this many bytes a vector holds."""
    return VECTOR_BYTES // itemsize


# Its declared type hides that the typing context is no argument of the caller.
_tile: Any = intrinsic(prefer_literal=True)


class _Emitter:
    """What both tiles need from LLVM."""

    def __init__(self, context: Any, builder: Any, number: Any) -> None:
        self.context, self.builder = context, builder
        self.scalar = context.get_value_type(number)
        self.width = VECTOR_BYTES // (number.bitwidth // 8)
        self.align = number.bitwidth // 8
        self.vector = ir.VectorType(self.scalar, self.width)
        self.fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fmuladd.v{self.width}f{number.bitwidth}",
        )
        self.index = context.get_value_type(types.intp)

    def data(self, array_type: Any, array: Any) -> Any:
        return self.context.make_array(array_type)(self.context, self.builder, array).data

    def const(self, value: int) -> Any:
        return ir.Constant(self.index, value)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def load(self, pointer: Any) -> Any:
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.align)

    def store(self, value: Any, pointer: Any) -> None:
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, pointer, align=self.align)

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def accumulators(self, rows: int, vectors: int) -> list[list[Any]]:
        """Slots that start from zero here, and that LLVM turns into registers."""
        zero = ir.Constant(self.vector, [0.0] * self.width)
        return [
            [cgutils.alloca_once_value(self.builder, zero) for _ in range(vectors)]
            for _ in range(rows)
        ]

    def add_lanes(self, vector: Any) -> Any:
        """The sum of a vector's lanes, in the order that suits the processor: a tree."""
        bits = self.align * 8
        add = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.scalar, [self.scalar, self.vector]),
            f"llvm.vector.reduce.fadd.v{self.width}f{bits}",
        )
        zero = ir.Constant(self.scalar, -0.0)
        return self.builder.call(add, [zero, vector], fastmath=("reassoc",))

    def accumulate(self, slot: Any, a: Any, b: Any) -> None:
        total = self.builder.call(self.fma, [a, b, self.builder.load(slot)])
        self.builder.store(total, slot)


@_tile
def line_tile(typingctx, rows, vectors, x, x0, offsets, k0, count, w, w0, c, c0, stride):
    """`c[c0 + i·stride + j] = Σ_k w[w0 + k·rows + i] · x[x0 + offsets[k0 + k] + j]`.

    For `i < rows`, `k < count` and `j < vectors·W`; rows and vectors are literal integers.
    """
    if not hasattr(rows, "literal_value") or not hasattr(vectors, "literal_value"):
        return None
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    at = types.intp
    signature = types.void(rows, vectors, x, at, offsets, at, at, w, at, c, at, at)

    def generate(context, builder, signature, arguments):
        _, _, x_, x0_, off_, k0_, count_, w_, w0_, c_, c0_, stride_ = arguments
        e = _Emitter(context, builder, signature.args[2].dtype)
        xs = e.at(e.data(signature.args[2], x_), x0_)
        offs = e.at(e.data(signature.args[4], off_), k0_)
        ws = e.at(e.data(signature.args[7], w_), w0_)
        cs = e.at(e.data(signature.args[9], c_), c0_)
        sums = e.accumulators(n_rows, n_vectors)
        with cgutils.for_range(builder, count_) as loop:
            place = e.at(xs, builder.load(e.at(offs, loop.index)))
            window = [e.load(e.at(place, e.const(j * e.width))) for j in range(n_vectors)]
            weights = e.at(ws, builder.mul(loop.index, e.const(n_rows)))
            for i in range(n_rows):
                weight = e.splat(builder.load(e.at(weights, e.const(i))))
                for j in range(n_vectors):
                    e.accumulate(sums[i][j], weight, window[j])
        for i in range(n_rows):
            row = e.at(cs, builder.mul(stride_, e.const(i)))
            for j in range(n_vectors):
                e.store(builder.load(sums[i][j]), e.at(row, e.const(j * e.width)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def dot_tile(
    typingctx, rows, vectors, g, g0, g_row, g_image, x, x0, offsets, k0, x_image, mask, length,
    images, sums, s0,
):  # fmt: skip
    """`sums[s0 + i·vectors + k] = Σ_n Σ_j g[...] · x[...]`, in W partial sums that are then added.

    `g[g0 + n·g_image + i·g_row + j]` meets `x[x0 + n·x_image + offsets[k0 + k] + j]` for `i <
    rows`, `k < vectors`, `n < images`, `j < length` (a multiple of W). Where `mask[j]` is 0 the
    input is taken as 0, whatever it holds, so a NaN outside of a window does no harm.
    """
    if not hasattr(rows, "literal_value") or not hasattr(vectors, "literal_value"):
        return None
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    at = types.intp
    signature = types.void(
        rows, vectors, g, at, at, at, x, at, offsets, at, at, mask, at, at, sums, at
    )

    def generate(context, builder, signature, arguments):
        _, _, g_, g0_, g_row_, g_image_, x_, x0_, off_, k0_ = arguments[:10]
        x_image_, mask_, length_, images_, sums_, s0_ = arguments[10:]
        e = _Emitter(context, builder, signature.args[2].dtype)
        gs = e.at(e.data(signature.args[2], g_), g0_)
        xs = e.at(e.data(signature.args[6], x_), x0_)
        offs = e.at(e.data(signature.args[8], off_), k0_)
        masks = e.data(signature.args[11], mask_)
        out = e.at(e.data(signature.args[14], sums_), s0_)
        shifts = [builder.load(e.at(offs, e.const(k))) for k in range(n_vectors)]
        sums = e.accumulators(n_rows, n_vectors)
        bytes_ = ir.VectorType(ir.IntType(8), e.width)
        no = ir.Constant(bytes_, [0] * e.width)
        zero = ir.Constant(e.vector, [0.0] * e.width)
        steps = builder.sdiv(length_, e.const(e.width))
        with cgutils.for_range(builder, images_) as image:
            g_n = e.at(gs, builder.mul(image.index, g_image_))
            x_n = e.at(xs, builder.mul(image.index, x_image_))
            with cgutils.for_range(builder, steps) as step:
                j = builder.mul(step.index, e.const(e.width))
                wanted = builder.load(builder.bitcast(e.at(masks, j), bytes_.as_pointer()), align=1)
                wanted = builder.icmp_signed("!=", wanted, no)
                window = [
                    builder.select(wanted, e.load(e.at(x_n, shift, j)), zero) for shift in shifts
                ]
                for i in range(n_rows):
                    row = e.load(e.at(g_n, builder.mul(g_row_, e.const(i)), j))
                    for k in range(n_vectors):
                        e.accumulate(sums[i][k], row, window[k])
        for i in range(n_rows):
            for k in range(n_vectors):
                total = e.add_lanes(builder.load(sums[i][k]))
                builder.store(total, e.at(out, e.const(i * n_vectors + k)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def product_tile(
    typingctx, rows, vectors, a, a0, a_row, a_k, b, b0, b_k, count, c, c0, c_row, add
):  # fmt: skip
    """`c[c0 + i·c_row + j] = Σ_k a[a0 + i·a_row + k·a_k] · b[b0 + k·b_k + j]`, or `+=` if `add`.

    For `i < rows`, `k < count` and `j < vectors·W`; rows and vectors are literal integers.
    """
    if not hasattr(rows, "literal_value") or not hasattr(vectors, "literal_value"):
        return None
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    at = types.intp
    signature = types.void(rows, vectors, a, at, at, at, b, at, at, at, c, at, at, types.boolean)

    def generate(context, builder, signature, arguments):
        a_, a0_, a_row_, a_k_, b_, b0_, b_k_, count_, c_, c0_, c_row_, add_ = arguments[2:]
        e = _Emitter(context, builder, signature.args[2].dtype)
        left = e.at(e.data(signature.args[2], a_), a0_)
        right = e.at(e.data(signature.args[6], b_), b0_)
        result = e.at(e.data(signature.args[10], c_), c0_)
        starts = [e.at(left, builder.mul(a_row_, e.const(i))) for i in range(n_rows)]
        ends = [e.at(result, builder.mul(c_row_, e.const(i))) for i in range(n_rows)]
        sums = e.accumulators(n_rows, n_vectors)
        with builder.if_then(context.is_true(builder, types.boolean, add_)):
            for i in range(n_rows):
                for j in range(n_vectors):
                    builder.store(e.load(e.at(ends[i], e.const(j * e.width))), sums[i][j])
        with cgutils.for_range(builder, count_) as loop:
            line = e.at(right, builder.mul(loop.index, b_k_))
            window = [e.load(e.at(line, e.const(j * e.width))) for j in range(n_vectors)]
            step = builder.mul(loop.index, a_k_)
            for i in range(n_rows):
                factor = e.splat(builder.load(e.at(starts[i], step)))
                for j in range(n_vectors):
                    e.accumulate(sums[i][j], factor, window[j])
        for i in range(n_rows):
            for j in range(n_vectors):
                e.store(builder.load(sums[i][j]), e.at(ends[i], e.const(j * e.width)))
        return context.get_dummy_value()

    return signature, generate


def _transposed(e: _Emitter, rows: list[Any]) -> list[Any]:
    """W vectors of W lanes with rows and lanes exchanged, in log2(W) rounds of shuffles."""
    width, rows = e.width, list(rows)
    half = width // 2
    number = ir.VectorType(ir.IntType(32), width)
    while half:
        low = [lane if not lane & half else width + lane - half for lane in range(width)]
        high = [lane + half if not lane & half else width + lane for lane in range(width)]
        for i in range(width):
            if not i & half:
                a, b = rows[i], rows[i + half]
                rows[i] = e.builder.shuffle_vector(a, b, ir.Constant(number, low))
                rows[i + half] = e.builder.shuffle_vector(a, b, ir.Constant(number, high))
        half //= 2
    return rows


@_tile
def gather_tile(typingctx, source, s0, s_row, target, t0, places, p0, scale):
    """`target[t0 + places[p0 + j]·scale + i] = source[s0 + i·s_row + j]` for `i, j < W`.

    W neighbouring places of W channels become W channels at each of W places.
    """
    at = types.intp
    signature = types.void(source, at, at, target, at, places, at, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, s_row_, t_, t0_, p_, p0_, scale_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        end = e.at(e.data(signature.args[3], t_), t0_)
        place = e.at(e.data(signature.args[5], p_), p0_)
        rows = [e.load(e.at(start, builder.mul(s_row_, e.const(i)))) for i in range(e.width)]
        for j, row in enumerate(_transposed(e, rows)):
            to = builder.mul(builder.load(e.at(place, e.const(j))), scale_)
            e.store(row, e.at(end, to))
        return context.get_dummy_value()

    return signature, generate


@_tile
def scatter_tile(typingctx, source, s0, places, p0, scale, target, t0, t_row):
    """`target[t0 + i·t_row + j] = source[s0 + places[p0 + j]·scale + i]` for `i, j < W`."""
    at = types.intp
    signature = types.void(source, at, places, at, at, target, at, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, p_, p0_, scale_, t_, t0_, t_row_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        place = e.at(e.data(signature.args[2], p_), p0_)
        end = e.at(e.data(signature.args[5], t_), t0_)
        columns = [
            e.load(e.at(start, builder.mul(builder.load(e.at(place, e.const(j))), scale_)))
            for j in range(e.width)
        ]
        for i, row in enumerate(_transposed(e, columns)):
            e.store(row, e.at(end, builder.mul(t_row_, e.const(i))))
        return context.get_dummy_value()

    return signature, generate


def sandwich_tile(matrix: list[list[float]]) -> Any:
    """An intrinsic for one matrix L, m x n: `target = L · source · Lᵀ` in each of W lanes.

    `source[s0 + i·s_row + j·s_column + lane]` for `i, j < n` becomes
    `target[t0 + i·t_row + j·t_column + lane]` for `i, j < m`.
    """

    @_tile
    def sandwich(typingctx, source, s0, s_row, s_column, target, t0, t_row, t_column):
        """`target = L · source · Lᵀ` for this module's matrix."""
        at = types.intp
        signature = types.void(source, at, at, at, target, at, at, at)

        def generate(context, builder, signature, arguments):
            s_, s0_, s_row_, s_column_, t_, t0_, t_row_, t_column_ = arguments
            e = _Emitter(context, builder, signature.args[0].dtype)
            start = e.at(e.data(signature.args[0], s_), s0_)
            end = e.at(e.data(signature.args[4], t_), t0_)
            n = len(matrix[0])
            half = []  # half[j] = L · column j of the source
            for j in range(n):
                top = e.at(start, builder.mul(s_column_, e.const(j)))
                column = [e.load(e.at(top, builder.mul(s_row_, e.const(i)))) for i in range(n)]
                half.append([_combination(e, row, column) for row in matrix])
            for i in range(len(matrix)):
                row = e.at(end, builder.mul(t_row_, e.const(i)))
                line = [half[j][i] for j in range(n)]
                for j, coefficients in enumerate(matrix):
                    place = e.at(row, builder.mul(t_column_, e.const(j)))
                    e.store(_combination(e, coefficients, line), place)
            return context.get_dummy_value()

        return signature, generate

    return sandwich


def _combination(e: _Emitter, coefficients: list[float], vectors: list[Any]) -> Any:
    """Σ coefficient · vector, without the zeros; ones cost no multiplication."""
    total = None
    # What can start the sum without an operation of its own comes first.
    order = sorted(range(len(vectors)), key=lambda k: coefficients[k] != 1.0)
    for k in order:
        factor, vector = coefficients[k], vectors[k]
        if factor == 0.0:
            continue
        splat = ir.Constant(e.vector, [factor] * e.width)
        if total is None:
            total = vector if factor == 1.0 else e.builder.fmul(splat, vector)
        elif factor == 1.0:
            total = e.builder.fadd(total, vector)
        elif factor == -1.0:
            total = e.builder.fsub(total, vector)
        else:
            total = e.builder.call(e.fma, [splat, vector, total])
    return ir.Constant(e.vector, [0.0] * e.width) if total is None else total
