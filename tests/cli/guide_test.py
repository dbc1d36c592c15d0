"""The examples of docs/guide.md, run as they stand there.

```sh            run in a folder of its own, with `lapidary` on the path and $LAPIDARY_MODEL the tiny model; has to exit
                 with 0, or with N where a line `# exits N` stands in the block
```output        what the block before it printed, standard error included; … stands for anything
```TYPE FILE     a file that later blocks find there (```jsonl prompts.jsonl)
```sh norun      shown, not run
"""

import os
import re
import subprocess
import unittest

from harness import DATA, LAPIDARY, TINY, Case, main

GUIDE = os.path.join(DATA, "..", "..", "docs", "guide.md")
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def matches(wanted, got):
    """Whether `got` is what stands there; blanks and line ends count as one blank."""
    plain = lambda text: " ".join(text.split())
    pattern = ".*".join(re.escape(part) for part in plain(wanted).split("…"))
    return re.fullmatch(pattern, plain(got)) is not None


class Guide(Case):
    def test_matching(self):
        self.assertTrue(matches("a … c\n", "a b c"))
        self.assertFalse(matches("a … c", "a b d"))

    def test_examples(self):
        with open(GUIDE, encoding="utf-8") as file:
            blocks = BLOCK.findall(file.read())
        tools = self.path("bin")
        os.mkdir(tools)
        os.symlink(LAPIDARY, os.path.join(tools, "lapidary"))
        work = self.path("work")
        os.mkdir(work)
        environment = dict(
            self.environment, LAPIDARY_MODEL=TINY, PATH=tools + ":" + os.environ["PATH"],
            LAPIDARY_MAX_TOKENS="16", PICTURES=os.path.join(DATA, "vision", "images"),
        )
        printed, run = "", 0
        for kind, words, text in blocks:
            with self.subTest(block=text):
                if kind == "sh" and words != "norun":
                    code = re.search(r"# exits (\d+)", text)
                    done = subprocess.run(
                        ["bash", "-e", "-c", text], cwd=work, env=environment, stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                    )
                    printed = done.stdout.decode(errors="replace")
                    self.assertEqual(done.returncode, int(code[1]) if code else 0, printed)
                    run += 1
                elif kind == "output":
                    self.assertTrue(matches(text, printed), printed)
                elif words and kind != "sh":
                    with open(os.path.join(work, words), "w", encoding="utf-8") as file:
                        file.write(text)
        self.assertGreater(run, 10)


if __name__ == "__main__":
    main()
