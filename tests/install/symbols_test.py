"""Compares what a shared library exports with a list: symbols_test.py LIBRARY LIST [--write].

The list is the ABI in names: docs/decisions/0018-abi.md says when it may change, and what else changes then.
"""

import difflib
import pathlib
import subprocess
import sys


def exported(library):
    """Names as in the source, each once: constructors have several symbols, which compilers share out differently."""
    lines = subprocess.run(["nm", "-D", "-C", "--defined-only", library], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    names = set()
    for line in lines:
        kind, name = line.split(maxsplit=1)[1].split(maxsplit=1) if not line.startswith(" ") else line.split(maxsplit=1)
        if kind != "A":  # The name of the version itself.
            names.add(name.replace("[abi:cxx11]", ""))
    return sorted(names)


def main():
    library, path = sys.argv[1], pathlib.Path(sys.argv[2])
    found = exported(library)
    if "--write" in sys.argv:
        path.write_text("\n".join(found) + "\n", encoding="utf-8")
        return 0
    listed = path.read_text(encoding="utf-8").splitlines()
    if not found or found != listed:
        print("\n".join(difflib.unified_diff(listed, found, path.name, library, lineterm="", n=0)))
        print(f"\nThe exported symbols are not those of the list. Where that is meant, see docs/decisions/0018-abi.md "
              f"and run:\n{sys.argv[0]} {library} {path} --write")
        return 1
    versions = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                              capture_output=True, text=True).stdout.splitlines()
    bare = [line for line in versions if "@" not in line and " A " not in line]
    if bare:
        print("symbols without a version:", *bare, sep="\n")
        return 1
    print(f"{len(found)} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
