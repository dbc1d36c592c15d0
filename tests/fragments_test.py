"""Compiles each fragment of the kernels by itself: fragments_test.py ROOT COMPILER.

An editor reads a file called …-inl.h alone, on the scalar lanes that src/kernels/alone.h shows it, and so does this test:
a fragment that uses what it does not include is found here. Then primitives are taken out of the scalar lanes, one at a
time, or given another type, and what the compiler says must name each. docs/adding-an-isa.md must have all their names.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

# Of an instruction set, not of all: they need its intrinsics.
LANES = re.compile(r"lanes-|narrow-x86|fma-sse2")
# Of the scalar lanes: a primitive's beginning, and what stands there instead.
SPOILT = {
    "load_half(": ("inline Floats load_half(", "inline Floats load_halves("),
    "reduce_max(": ("inline float reduce_max(", "inline double reduce_max("),
    "shift_right<4>(": ("inline Ints shift_right(", "inline Ints shift_left("),
    "merge_plane<2, 0x30>(": ("inline Bytes merge_plane(", "inline Bytes merge_planes("),
    "dot_each(": ("inline Ints dot_each(", "inline Floats dot_each("),
    "times_total<128>(": ("inline Ints times_total(", "inline Ints total("),
}


def compile_alone(compiler, text, *folders):
    """What the compiler says of `text`; empty where it is satisfied."""
    command = [compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", *(f"-I{folder}" for folder in folders), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    return done.stderr if done.returncode else ""


def check_fragments(source, compiler):
    fragments = [path for path in sorted((source / "kernels").glob("*-inl.h")) if not LANES.search(path.name)]
    if len(fragments) < 10:
        yield f"only {len(fragments)} fragments found"
    for path in fragments:
        if said := compile_alone(compiler, f'#include "kernels/{path.name}"\n', source):
            yield f"{path.name} cannot be read alone:\n{said}"


def check_contract(source, compiler):
    lanes = (source / "kernels/lanes-scalar-inl.h").read_text(encoding="utf-8")
    for name, (before, after) in SPOILT.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder, "kernels")
            copy.mkdir()
            if lanes.count(before) != 1:
                yield f"expected one {before!r} in lanes-scalar-inl.h, found {lanes.count(before)}"
                continue
            (copy / "lanes-scalar-inl.h").write_text(lanes.replace(before, after), encoding="utf-8")
            said = compile_alone(compiler, '#include "kernels/vocabulary-inl.h"\n', folder, source)
            if not re.search(r"static.?assert[\s\S]*?\b" + re.escape(name), said):
                yield f"without {name} the compiler did not name it: {said or 'it was satisfied'}"


def check_page(root):
    contract = (root / "src/kernels/vocabulary-inl.h").read_text(encoding="utf-8")
    page = (root / "docs/adding-an-isa.md").read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"^LAPIDARY_NEEDS\([\w:]+,\s*\(?(\w+)", contract, re.MULTILINE))):
        if f"`{name}`" not in page:
            yield f"docs/adding-an-isa.md has no {name}"


def main():
    root, compiler = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    errors = [*check_fragments(root / "src", compiler), *check_contract(root / "src", compiler), *check_page(root)]
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
