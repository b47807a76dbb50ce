"""Products by tensor cores: fragments of 16 x 8 and 8 x 8 numbers, spread over the lanes of a warp.

`mma.sync.m16n8k8` multiplies in TF32 and adds in float32. Lane l holds, with `g = l // 4` and
`t = l % 4`: of the left fragment rows g and g + 8 in columns t and t + 4; of the right one rows t
and t + 4 in column g; of the sums rows g and g + 8 in columns 2t and 2t + 1 (PTX manual, "Matrix
fragments for mma.m16n8k8"). What a warp reads from shared memory lies in 32 banks, because the
pitch of a slice is 8 more than a multiple of 32.

`mma.sync.m16n8k16` takes bfloat16 two in a register, terms 2k and 2k + 1, the first in the lower
half: its registers are where those of TF32 are, with pairs in place of terms ("Matrix fragments for
mma.m16n8k16 with floating point type"). So pairs lie in shared memory as one float32 would, each
half stored by the thread that has it, and all else is shared with TF32.

Numba's simulator has no lanes; there the tiles of tensor cores are multiplied as all others are,
their numbers rounded as here (`simulator`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types, uint32
from numba.cuda.extending import intrinsic

from .driver import numba_cuda
from .launch import inlined
from .tile import Tile

cuda: Any = numba_cuda()
_untyped: Any = intrinsic

_SHAPES = {
    "tf32": "m16n8k8.row.col.f32.tf32.tf32.f32",
    "bfloat16": "m16n8k16.row.col.f32.bf16.bf16.f32",
}
_OPERANDS = "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"


@_untyped
def to_tf32(typingctx: Any, x: Any) -> Any:
    """The float32 nearest to x that has 10 bits of mantissa."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, number = ir.IntType(32), ir.FloatType()
        convert = ir.InlineAsm(ir.FunctionType(bits, [number]), "cvt.rna.tf32.f32 $0, $1;", "=r,f")
        return builder.bitcast(builder.call(convert, arguments), number)

    return types.float32(types.float32), codegen


@_untyped
def store_bfloat16(typingctx: Any, shared: Any, at: Any, x: Any) -> Any:
    """Write the bfloat16 nearest to x, a half to an even one, to a place counted in 16 bits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half, number = ir.IntType(16), ir.FloatType()
        array, place, value = arguments
        convert = ir.InlineAsm(ir.FunctionType(half, [number]), "cvt.rn.bf16.f32 $0, $1;", "=h,f")
        memory = context.make_array(signature.args[0])(context, builder, array).data
        halves = builder.bitcast(memory, half.as_pointer(memory.type.addrspace))
        wide = builder.zext(place, ir.IntType(64))
        builder.store(builder.call(convert, [value]), builder.gep(halves, [wide]))
        return context.get_dummy_value()

    return types.void(shared, types.uint32, types.float32), codegen


def _fragments(to: str) -> Any:
    """The intrinsic that multiplies fragments of numbers that were rounded to TF32 or bfloat16."""
    text = f"mma.sync.aligned.{_SHAPES[to]} {_OPERANDS}"

    def mma(
        typingctx: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any,
        c2: Any, c3: Any,
    ) -> Any:  # fmt: skip
        of_lane = types.UniTuple(types.float32, 4)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bits, number = ir.IntType(32), ir.FloatType()
            kind = ir.FunctionType(ir.LiteralStructType([number] * 4), [bits] * 6 + [number] * 4)
            code = ir.InlineAsm(kind, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=True)
            operands = [builder.bitcast(a, bits) for a in arguments[:6]]
            found = builder.call(code, [*operands, *arguments[6:]])
            parts = [builder.extract_value(found, i) for i in range(4)]
            return context.make_tuple(builder, of_lane, parts)

        return of_lane(*[types.float32] * 10), codegen

    return _untyped(mma)


MMA = {to: _fragments(to) for to in _SHAPES}
"""The sums of a lane after one product of fragments: six registers, four sums, all float32."""


def multiplier(tile: Tile) -> Any:
    """`tile.multiplier` for tensor cores: a warp's part is `2 x 4` products of fragments."""
    # 8 terms of TF32, or 8 pairs of bfloat16, a product of fragments.
    slices = tile.depth // (16 if tile.packed else 8)
    mma = MMA[tile.tensor]
    a_pitch, b_pitch = tile.pitch(tile.rows, "float32"), tile.pitch(tile.columns, "float32")
    a_half, b_half = 4 * a_pitch, 4 * b_pitch
    high, across = tile.tall // 2, tile.wide // 2

    def multiply(sa, sb, at_a, at_b, left, right, sums):
        lane = uint32(cuda.threadIdx.x % 32)
        g, t = uint32(lane // 4), uint32(lane % 4)
        # at_a is at row g; at_b is at column 2t, of which a fragment wants column g.
        a = uint32(at_a + t * a_pitch)
        b = uint32(at_b + t * b_pitch + g - t * 2)
        for k in range(slices):
            for j in range(across):
                right[2 * j] = sb[b + uint32(k * 8 * b_pitch + j * 8)]
                right[2 * j + 1] = sb[b + uint32(k * 8 * b_pitch + j * 8 + b_half)]
            for i in range(high):
                left[0] = sa[a + uint32(k * 8 * a_pitch + i * 16)]
                left[1] = sa[a + uint32(k * 8 * a_pitch + i * 16 + 8)]
                left[2] = sa[a + uint32(k * 8 * a_pitch + i * 16 + a_half)]
                left[3] = sa[a + uint32(k * 8 * a_pitch + i * 16 + a_half + 8)]
                for j in range(across):
                    found = mma(
                        left[0], left[1], left[2], left[3], right[2 * j], right[2 * j + 1],
                        sums[2 * i, 2 * j], sums[2 * i, 2 * j + 1],
                        sums[2 * i + 1, 2 * j], sums[2 * i + 1, 2 * j + 1],
                    )  # fmt: skip
                    sums[2 * i, 2 * j] = found[0]
                    sums[2 * i, 2 * j + 1] = found[1]
                    sums[2 * i + 1, 2 * j] = found[2]
                    sums[2 * i + 1, 2 * j + 1] = found[3]

    return inlined(multiply)
