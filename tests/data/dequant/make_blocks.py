"""Makes the golden blocks of a quantised type: make_blocks.py TYPE [DIR].

TYPE.bytes holds 8 rows of 512 values as a GGUF file would hold them, TYPE.f32 the exact fp32 values of these, both little-endian.
The values are those of the `gguf` package on PyPI, which knows nothing of this project. Blocks are random bytes, so every
integer and every scale comes up; fp16 numbers alone are kept finite. In row 0 all other bits are clear, in row 1 all are set.
"""

import pathlib
import sys

import gguf
import numpy

ROWS, COLUMNS = 8, 512
# Where a block has its fp16 numbers, as in the list of src/formats/blocks.h. IQ1_M and MXFP4 have others.
HALVES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,),
          "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "IQ1_S": (0,),
          "IQ1_M": (), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "TQ1_0": (52,),
          "TQ2_0": (64,), "MXFP4": ()}


def make(name):
    """Blocks [rows, bytes] and their values [rows, columns]."""
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    random = numpy.random.default_rng(abs(hash_of(name)))
    blocks = random.integers(0, 256, (ROWS, COLUMNS // values, size), dtype=numpy.uint8)
    blocks[0], blocks[1] = 0x00, 0xFF
    if name == "MXFP4":  # The exponent of a power of two. From 253 on no float holds its multiples.
        blocks[:, :, 0] %= 253
        blocks[2, :3, 0] = 0, 1, 252
    if name == "IQ1_M":  # The fp16 number in four nibbles: its exponent must not be all ones.
        blocks[:, :, 55] &= 0xBF
    for at in HALVES[name]:
        scales = random.uniform(-1, 1, blocks.shape[:2]) * 2.0 ** random.integers(-14, 3, blocks.shape[:2])
        blocks[:, :, at:at + 2] = scales.astype("<f2").view(numpy.uint8).reshape(*blocks.shape[:2], 2)
    blocks = blocks.reshape(ROWS, -1)
    with numpy.errstate(over="ignore"):
        return blocks, gguf.quants.dequantize(blocks, kind).astype("<f4")


def hash_of(name):
    """A seed of the type's own, the same everywhere."""
    return int.from_bytes(name.encode(), "little")


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in HALVES:
        sys.exit("usage: make_blocks.py TYPE [DIR]\nTYPE is one of " + ", ".join(HALVES))
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent
    blocks, values = make(sys.argv[1])
    assert values.shape == (ROWS, COLUMNS) and numpy.isfinite(values).all()
    (folder / f"{sys.argv[1]}.bytes").write_bytes(blocks.tobytes())
    (folder / f"{sys.argv[1]}.f32").write_bytes(values.tobytes())


if __name__ == "__main__":
    main()
