"""Checks that docs/embedding.md shows what its examples do: examples_test.py ROOT.

Every block of C++ in it stands, as it is but for its indentation, in the example that was named last, and every example
is shown.
"""

import pathlib
import re
import sys

LINK = re.compile(r"\]\(examples/(\w+\.cpp)\)")
BLOCK = re.compile(r"^```cpp\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def plain(text):
    """The lines of a text without their indentation."""
    return "\n" + "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def check(document, examples):
    """All faults of a document, one line each; `examples`: texts by name."""
    errors, shown = [], set()
    for block in BLOCK.finditer(document):
        names = LINK.findall(document[:block.start()])
        first = block.group(1).strip().splitlines()[0]
        if not names or names[-1] not in examples:
            errors.append(f"no example is named before: {first}")
            continue
        shown.add(names[-1])
        # An ellipsis on a line of its own stands for lines left out.
        place, text = 0, plain(examples[names[-1]])
        for part in re.split(r"^\s*// …\n", block.group(1), flags=re.MULTILINE):
            place = text.find(plain(part), place)
            if place < 0:
                errors.append(f"{names[-1]} has not, or not in this order: {part.strip().splitlines()[0]}")
                break
    return errors + [f"{name} is not shown" for name in sorted(set(examples) - shown)]


def self_check():
    examples = {"a.cpp": "int f() {\n  return 1;\n}\nint g();\n"}
    good = "[a](examples/a.cpp)\n```cpp\nint f() {\n  // …\n}\n```\n"
    assert check(good, examples) == [], check(good, examples)
    assert check(good.replace("f()", "h()"), examples) != []
    assert check(good.replace("a.cpp", "b.cpp"), examples) != []
    assert check("", examples) == ["a.cpp is not shown"]


def main():
    self_check()
    folder = pathlib.Path(sys.argv[1]) / "docs"
    examples = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("examples/*.cpp")}
    errors = check((folder / "embedding.md").read_text(encoding="utf-8"), examples)
    print("\n".join(errors) or f"{len(examples)} examples")
    return 1 if errors or len(examples) < 6 else 0


if __name__ == "__main__":
    sys.exit(main())
