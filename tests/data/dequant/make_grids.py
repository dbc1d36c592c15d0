"""Makes src/formats/grids.h, the grids of the IQ types, from the `gguf` package on PyPI, and TYPE.grid for the tests here.

TYPE.grid holds blocks in which every entry of the type's grid comes up, behind the FNV-1a hash of the fp32 values that
the package makes of them, all little-endian.
"""

import pathlib
import sys

import gguf
import gguf.quants as quants
import numpy

# The type that has the grid, its name here, the bits of a level, and what the levels are.
GRIDS = ((quants.IQ2_XXS, "kIq2XxsGrid", 2, "8, 25, 43"), (quants.IQ2_XS, "kIq2XsGrid", 2, "8, 25, 43"),
         (quants.IQ2_S, "kIq2SGrid", 2, "8, 25, 43"),
         (quants.IQ3_XXS, "kIq3XxsGrid", 3, "4, 12, 20, 28, 36, 44, 52, 62"),
         (quants.IQ3_S, "kIq3SGrid", 3, "1, 3, 5, 7, 9, 11, 13, 15"), (quants.IQ1_S, "kIq1Grid", 2, "-1, 0, 1"))
A_LINE = 12

HEAD = """#pragma once

#include <cstdint>

/// The grids of the IQ types: what the numbers in their blocks stand for, as levels of some values
/// each. Facts of the formats, written by tests/data/dequant/make_grids.py; not to be edited.
namespace lapidary {

// clang-format off"""


def entries(kind, bits):
    """Value i of an entry is the level in its bits i · bits and above."""
    kind.init_grid()
    grid = kind.grid.reshape(kind.grid_shape).astype(int)
    levels = {value: level for level, value in enumerate(kind.grid_map)}
    return [sum(levels[value] << bits * i for i, value in enumerate(entry)) for entry in grid.tolist()]


def number_blocks(name, count):
    """Blocks of 256 values with all numbers below `count` in turn, and scales of 1 or more."""
    octets = name[2] != "3"  # Numbers are of eight values, else of four.
    in_block = 32 if octets else 64
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    blocks = numpy.zeros((count // in_block, size), dtype=numpy.uint8)
    numbers = numpy.arange(count).reshape(-1, in_block)
    low, high = (numbers & 255).astype(numpy.uint8), numbers >> 8
    if name != "IQ1_M":
        blocks[:, 1] = 0x3C
    if name == "IQ2_XXS":
        for i in range(in_block):
            blocks[:, 2 + i // 4 * 8 + i % 4] = low[:, i]
    elif name == "IQ2_XS":
        blocks[:, 2:66] = numbers.astype("<u2").view(numpy.uint8)
    elif name in ("IQ2_S", "IQ3_S"):
        blocks[:, 2:2 + in_block] = low
        bits = 8 * 8 // in_block
        for i in range(in_block):
            blocks[:, 66 + i * bits // 8] |= (high[:, i] << i * bits % 8).astype(numpy.uint8)
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = low
    elif name == "IQ1_S":
        blocks[:, 2:34] = low
        rest = sum(high[:, i::4] << 3 * i for i in range(4))
        blocks[:, 34:50] = rest.astype("<u2").view(numpy.uint8)
    elif name == "IQ1_M":
        blocks[:, :32] = low
        blocks[:, 32:48] = (high[:, 0::2] | high[:, 1::2] << 4).astype(numpy.uint8)
        blocks[:, 53], blocks[:, 55] = 0xC0, 0x30
    return blocks


def hash_of(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def write_blocks(folder, name, count):
    blocks = number_blocks(name, count)
    values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).astype("<f4")
    if name != "IQ1_M":
        entries_found = {tuple(entry) for entry in values.reshape(count, -1).tolist()}
        assert len(entries_found) == count, name
    (folder / f"{name}.grid").write_bytes(hash_of(values.tobytes()).to_bytes(8, "little") + blocks.tobytes())


def write_header(path):
    lines = [HEAD]
    for kind, name, bits, levels in GRIDS:
        numbers = entries(kind, bits)
        lines.append(f"\n/// {8 if bits == 2 else 4} levels of {bits} bits, the first one lowest: {levels}.")
        lines.append(f"inline constexpr std::uint16_t {name}[{len(numbers)}] = {{")
        for first in range(0, len(numbers), A_LINE):
            lines.append("    " + " ".join(f"{number:#06x}," for number in numbers[first:first + A_LINE]))
        lines.append("};")
    lines.append("// clang-format on\n\n}  // namespace lapidary\n")
    path.write_text("\n".join(lines), encoding="utf-8")


def main():
    if len(sys.argv) != 1:
        sys.exit("usage: make_grids.py")
    folder = pathlib.Path(__file__).parent
    write_header(folder.parents[2] / "src" / "formats" / "grids.h")
    for name, count in (("IQ2_XXS", 256), ("IQ2_XS", 512), ("IQ2_S", 1024), ("IQ3_XXS", 256), ("IQ3_S", 512),
                        ("IQ1_S", 2048), ("IQ1_M", 2048)):
        write_blocks(folder, name, count)


if __name__ == "__main__":
    main()
