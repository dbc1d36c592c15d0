"""Checks the layout of the repository: layout_test.py ROOT.

No include goes against the arrows of docs/HACKING.md; the kernels see nothing but the block formats; intrinsics stay in
src/kernels and OpenMP in src/base; public headers and tools see nothing internal; the top level has the agreed names; every
file that a comment or a document names is there. The checks are first run over planted violations, each of which must be
found.
"""

import pathlib
import re
import sys
import tempfile

TOP = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "cmake", "docs", "include", "models",
       "src", "tests", "tools", ".ci", ".clang-format", ".clang-tidy", ".editorconfig", ".gitignore"}
# Not part of the tree: git's own, builds, and what editors and tools leave.
TOP_IGNORED = re.compile(r"\.git|build.*|install|\.cache|\.vscode|\.idea|compile_commands\.json|CMakeUserPresets\.json")

# Which folders of src/ a folder may include, itself left out.
ARROWS = {
    "base": set(),
    "formats": {"base"},
    "kernels": set(),
    "ops": {"kernels", "formats", "base"},
    "text": {"formats", "base"},
    # Arrows to the kernels that skip ops, and the runtime's to formats: docs/decisions/0002-arrows.md.
    "model": {"ops", "kernels", "formats", "base"},
    "vision": {"ops", "kernels", "formats", "base"},
    "runtime": {"text", "vision", "model", "formats", "kernels", "base"},
}
KERNEL_HEADERS = {"algorithm", "bit", "cfloat", "climits", "cmath", "cstddef", "cstdint", "cstdlib", "cstring", "limits",
                  "type_traits", "utility", "immintrin.h", "cpuid.h", "arm_neon.h", "sys/auxv.h", "asm/hwcap.h"}
# Headers of src/ that are all there is of what they declare, and public ones without a function.
HEADER_ONLY = {"base/cancel.h", "base/exclusive.h", "base/float_environment.h", "base/format.h", "base/layout.h",
               "base/rows.h", "formats/block_readers.h", "formats/blocks.h", "formats/grids.h", "formats/other_types.h",
               "formats/token_table.h", "kernels/alone.h", "kernels/features.h", "kernels/half.h", "kernels/isa.h",
               "kernels/kv_layout.h", "ops/tokens.h", "vision/bytes.h"}
DATA_ONLY = {"lapidary.h", "sampling.h", "stats.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
# The threads set the floating-point control register and pause in their barrier; neither is a kernel.
THREAD_CONTROL = re.compile(r"\b_mm_(?:getcsr|setcsr|pause)\b|<xmmintrin\.h>")
INTRINSICS = re.compile(r"\b_mm\d*_\w+|\b__m(?:128|256|512)\w*|\bv(?:ld|st)[1-4]q?_\w+|"
                        r"[<\"](?:\w*mmintrin|x86intrin|arm_neon)\.h")
OPENMP = re.compile(r'#\s*pragma\s+omp\b|[<"]omp\.h|\bomp_\w+\s*\(')

# Names of files in comments and documents: with a folder of ours in front, or of an extension that only sources and pages
# have. What is written in capitals (X_test.cpp, FILE.md) stands for any name, and other projects' names are no files of ours.
FOLDERS = ("cmake", "docs", "include", "models", "src", "tests", "tools")
NAMED = re.compile(r"(?<![\w/.~*$}<-])(?:(?:\.\./)*(?:%s|decisions)/[\w./-]*\w|(?:[\w.-]+/)*[A-Za-z][\w-]*\.(?:md|h|cpp|py|sh|cmake)\b)"
                   r"(?![\w/*{-]|\.\w)" % "|".join(FOLDERS))
PLACEHOLDER = re.compile(r"(?:^|/)(?:[A-Z]+|NNNN-title)(?:[._]|$)")
PAGES = {"README", "HACKING", "LICENSE"}
NOT_OURS = {"lapidary/export.h", "docs/html", "llama.cpp", "ik_llama.cpp", "gemma.cpp", "jpeglib.h"}
COMMENT = {".h": r"//.*", ".cpp": r"//.*", ".py": r"(?m:(?:^|\s)#.*)|\"\"\"[\s\S]*?\"\"\"", ".sh": r"(?:^|\s)#.*",
           ".txt": r"(?:^|\s)#.*", ".cmake": r"(?:^|\s)#.*", ".md": r"[\s\S]+"}


def reachable(folder):
    """Parts that `folder` may link: whatever its arrows lead to."""
    seen, todo = set(), [folder]
    while todo:
        for other in ARROWS[todo.pop()] - seen:
            seen.add(other)
            todo.append(other)
    return seen


def sources(root, *folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".h", ".cpp", ".inc"}:
                yield path, path.read_text(encoding="utf-8")


def bad_include(root, path, quote, header):
    """Why `path` may not include `header`, or None."""
    part = path.relative_to(root).parts
    head = header.split("/")[0]
    if part[0] == "include":
        internal = quote == '"' and head != "lapidary" or head in ARROWS
        return "a public header includes something internal" if internal else None
    if part[0] == "tools":
        own = (path.parent / header).is_file()
        return None if quote == "<" and head not in ARROWS or head == "lapidary" or own else "tools see public headers only"
    folder = part[1]
    if folder not in ARROWS:
        return f"src/{folder} has no arrows"
    if folder == "kernels":
        own = head == "kernels" or header == "formats/blocks.h"
        return None if (own if quote == '"' else header in KERNEL_HEADERS) else "kernels see only formats/blocks.h"
    if quote == "<" or head == "lapidary" or head == folder or head in ARROWS[folder]:
        return None
    return f"no arrow from {folder} to {head}"


def bad_pages(root):
    """Pages of docs/ that are hard to read in an editor, and decisions that do not begin with what was decided."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for path in pages:
        name, fenced = path.relative_to(root).as_posix(), False
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if line.startswith("```"):
                fenced = not fenced
            if len(line) > 120 and not fenced and not line.startswith(("|", "![")):
                yield f"{name}:{number}: a line of {len(line)} characters, expected at most 120"
        if path.parent.name == "decisions" and not (len(lines) > 2 and lines[2].startswith("**Decision.**")):
            yield f"{name}: expected **Decision.** in the third line"


def named_files(path, text):
    """Names of files in the comments of `path`; of a page, in all of it."""
    for comment in re.findall(COMMENT[path.suffix], text, re.MULTILINE):
        for name in NAMED.findall(re.sub(r"\w+://\S+", "", comment)):
            stem = name.rsplit("/", 1)[-1].split(".")[0]
            if name not in NOT_OURS and (stem in PAGES or not PLACEHOLDER.search(name)):
                yield name


def is_there(root, path, name, basenames):
    """Whether `name` is a file or folder seen from the root, from `path`, or from a folder that sources include from; a name
    without folders may lie anywhere, and a decision is known by its number."""
    places = [root, path.parent, root / "src", root / "include", root / "docs"]
    if any((place / name).exists() for place in places):
        return True
    if "/" not in name:
        return name in basenames or name + ".in" in basenames
    return bool(re.fullmatch(r".*decisions/\d{4}", name)) and any(
        next((place / name).parent.glob(f"{name[-4:]}-*"), None) for place in places)


def check_names(root):
    """Comments and documents that name a file which is not there."""
    files = [path for folder in (*FOLDERS, ".ci") for path in sorted((root / folder).rglob("*")) if path.is_file()]
    files += [path for path in sorted(root.iterdir()) if path.is_file()]
    basenames = {path.name for path in files}
    return [f"{path.relative_to(root).as_posix()}: names {name}, which is not there" for path in files
            if path.suffix in COMMENT and path.name != "layout_test.py"
            for name in named_files(path, path.read_text(encoding="utf-8")) if not is_there(root, path, name, basenames)]


def lonely_headers(root):
    """Headers without a source of their name beside them (X_impl.h has X.cpp; a public one's lies in any part), and lists
    above that are not true. What is called -inl.h is part of the sources that include it."""
    for path in sorted((root / "src").rglob("*.h")):
        name = path.relative_to(root / "src").as_posix()
        if path.stem.endswith("-inl"):
            continue
        has_source = path.with_name(path.stem.removesuffix("_impl") + ".cpp").exists()
        if has_source == (name in HEADER_ONLY):
            yield f"src/{name}: " + ("has a source, and is listed as having none" if has_source else "has no source of its name")
    for path in sorted((root / "include" / "lapidary").glob("*.h")):
        has_source = any((root / "src").glob(f"*/{path.stem}.cpp"))
        if has_source == (path.name in DATA_ONLY):
            yield f"include/lapidary/{path.name}: " + ("has a source, and is listed as having none" if has_source
                                                       else "has no source of its name")


def check(root):
    """All violations under `root`, one line each."""
    errors = []
    errors += bad_pages(root)
    errors += lonely_headers(root)
    names = {path.name for path in root.iterdir() if not TOP_IGNORED.fullmatch(path.name)}
    errors += [f"{name}: not an agreed name at the top level" for name in sorted(names - TOP)]
    errors += [f"{name}: missing at the top level" for name in sorted(TOP - names)]
    for path, text in sources(root, "include", "src", "tools"):
        name = path.relative_to(root).as_posix()
        for quote, header in INCLUDE.findall(text):
            if why := bad_include(root, path, quote, header):
                errors.append(f"{name}: includes {header}: {why}")
        if name.startswith("src/base/"):
            text = THREAD_CONTROL.sub("", text)
        if not name.startswith("src/kernels/") and (found := INTRINSICS.search(text)):
            errors.append(f"{name}: {found.group()}: intrinsics belong in src/kernels")
        if not name.startswith("src/base/") and (found := OPENMP.search(text)):
            errors.append(f"{name}: {found.group()}: OpenMP belongs in src/base")
    for folder in sorted(path.parent.name for path in root.glob("src/*/CMakeLists.txt")):
        text = (root / "src" / folder / "CMakeLists.txt").read_text(encoding="utf-8")
        linked = set(re.findall(r"\blapidary_(\w+)", text)) & set(ARROWS) - {folder}
        errors += [f"src/{folder}/CMakeLists.txt: links lapidary_{other}: no arrow leads there"
                   for other in sorted(linked - reachable(folder))]
    return errors + check_names(root)


def plant(root, files):
    for name in TOP:
        (root / name).touch() if "." in name[1:] or name == "LICENSE" or name[0] == "." else (root / name).mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


VIOLATIONS = {
    "src/base/a.cpp": '#include "formats/gguf.h"\n',
    "src/formats/a.cpp": '#include "model/config.h"\n',
    "src/kernels/a.cpp": "#include <vector>\n",
    "src/kernels/b.cpp": '#include "base/team.h"\n',
    "src/kernels/c.cpp": '#include "formats/weight_source.h"\n',
    "src/model/a.cpp": '#include "text/tokenizer_impl.h"\n',
    "src/base/b.cpp": "auto x = _mm_add_ps(y, z);\n",
    "src/runtime/a.h": '#  include "ops/linear.h"\n',
    "src/ops/a.cpp": "auto x = _mm256_setzero_ps();\n",
    "src/ops/b.cpp": "#include <immintrin.h>\n",
    "src/model/b.cpp": "#pragma omp parallel\n",
    "src/text/CMakeLists.txt": "lapidary_part(text SOURCES a.cpp USES lapidary_model)\n",
    "src/elsewhere/a.cpp": "#include <vector>\n",
    "include/lapidary/a.h": '#include "base/file.h"\n',
    "tools/lapidary/a.cpp": '#include "model/config.h"\n',
    "notes.txt": "",
    "docs/wide.md": "word " * 25 + "\n",
    "docs/decisions/0001-a.md": "# 1. A\n\nFirst, a story.\n",
    "src/kernels/d.cpp": "// The layout is nowhere.h's.\n",
    "src/model/c.h": "/// Proved in docs/missing.md.\n",
    "src/ops/c.h": "int x;  // As docs/decisions/0002 says.\n",
    "docs/a.md": "[the proof](missing.md), in `src/ops/missing.cpp`\n",
    "src/text/b.h": "int f();\n",
    "include/lapidary/b.h": "int f();\n",
    "tools/a.py": '"""Reads tests/missing/a.txt."""\n',
}
CLEAN = {
    "src/kernels/a.cpp": '#include <immintrin.h>\n#include "kernels/kernels.h"\n#include "formats/blocks.h"\n',
    "src/base/team.cpp": "#include <omp.h>\n#include <xmmintrin.h>\nvoid f() { _mm_setcsr(_mm_getcsr()); }\n",
    "src/runtime/a.cpp": '#include "text/t.h"\n#include "base/b.h"\n#include "lapidary/model.h"\n#include <vector>\n',
    "src/text/CMakeLists.txt": "lapidary_part(text SOURCES a.cpp USES lapidary_formats lapidary_base)\n",
    "tools/lapidary/main.cpp": '#include "text.h"\n#include <CLI/CLI.hpp>\n#include "lapidary/model.h"\n',
    "tools/lapidary/text.h": "#include <string>\n",
    "docs/decisions/0001-a.md": "# 1. A\n\n**Decision.** One [page](../b.md), `tools/lapidary`, llama.cpp, THING_test.cpp and\n"
        "https://a.example/b.md.\n\n|" + "wide " * 30 + "|\n```\n" + "long " * 30 + "\n```\n",
    "docs/b.md": "See decisions/0001-a.md.\n",
    "src/ops/a.h": "// As docs/decisions/0001 and text.h say; text/t_impl.h is no comment's.\nint a;\n",
    "src/ops/a.cpp": "",
    "src/text/t_impl.h": "",
    "src/text/t.cpp": "",
    "src/kernels/half.h": "",
    "src/kernels/a-inl.h": "",
    "include/lapidary/t.h": "",
    "include/lapidary/stats.h": "",
}


def self_check():
    """Errors of the checks themselves."""
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        plant(pathlib.Path(folder), CLEAN)
        errors += [f"clean tree: {error}" for error in check(pathlib.Path(folder))]
    for name, text in VIOLATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            plant(pathlib.Path(folder), {name: text})
            if not any(error.startswith(name) for error in check(pathlib.Path(folder))):
                errors.append(f"planted violation not found: {name}: {text.strip()}")
    return errors


def main():
    errors = self_check() + check(pathlib.Path(sys.argv[1]).resolve())
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
