"""The examples of docs/guide.md and docs/scaling.md, run as they stand there.

```sh            run in a folder of its own, with `lapidary` on the path and $LAPIDARY_MODEL the tiny model; has to exit
                 with 0, or with N where a line `# exits N` stands in the block
```output        what the block before it printed, standard error included; … stands for anything
```TYPE FILE     a file that later blocks find there (```jsonl prompts.jsonl)
```sh norun      shown, not run
```sh needs X    run where there is a program X
"""

import os
import re
import shutil
import subprocess
import unittest

from harness import DATA, LAPIDARY, TINY, Case, main, settled

DOCS = os.path.join(DATA, "..", "..", "docs")
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def matches(wanted, got):
    """Whether `got` is what stands there; blanks and line ends count as one blank."""
    plain = lambda text: " ".join(text.split())
    pattern = ".*".join(re.escape(part) for part in plain(wanted).split("…"))
    return re.fullmatch(pattern, plain(got)) is not None


class Page(Case):
    def setUp(self):
        super().setUp()
        tools = self.path("bin")
        os.mkdir(tools)
        os.symlink(LAPIDARY, os.path.join(tools, "lapidary"))
        self.work = self.path("work")
        os.mkdir(self.work)
        self.environment.update(
            LAPIDARY_MODEL=TINY, PATH=tools + ":" + os.environ["PATH"], LAPIDARY_MAX_TOKENS="16",
            PICTURES=os.path.join(DATA, "vision", "images"),
        )

    def blocks(self, name):
        with open(os.path.join(DOCS, name), encoding="utf-8") as file:
            return BLOCK.findall(file.read())

    def file(self, name):
        with open(os.path.join(self.work, name), "rb") as file:
            return file.read()

    def write(self, name, text):
        with open(os.path.join(self.work, name), "w", encoding="utf-8") as file:
            file.write(text)

    def run_script(self, text, env=None):
        """The exit code, and what it printed, standard error included."""
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=self.work, env={**self.environment, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def run_page(self, name):
        """How many blocks were run."""
        printed, count = "", 0
        for kind, words, text in self.blocks(name):
            with self.subTest(block=text):
                needed = words.removeprefix("needs ") if words.startswith("needs ") else "bash"
                if kind == "sh" and words != "norun" and shutil.which(needed):
                    wanted = re.search(r"# exits (\d+)", text)
                    code, printed = self.run_script(text)
                    self.assertEqual(code, int(wanted[1]) if wanted else 0, printed)
                    count += 1
                elif kind == "sh":
                    printed = None
                elif kind == "output":
                    self.assertTrue(printed is None or matches(text, printed), printed)
                elif words:
                    self.write(words, text)
        return count


class Guide(Page):
    def test_matching(self):
        self.assertTrue(matches("a … c\n", "a b c"))
        self.assertFalse(matches("a … c", "a b d"))

    def test_examples(self):
        self.assertGreater(self.run_page("guide.md"), 10)


class Scaling(Page):
    def test_examples(self):
        self.assertGreater(self.run_page("scaling.md"), 3)

    def merged_is_one_batch(self, pattern):
        merge = f"paste -d '\\n' {pattern} | grep . > merged.jsonl; lapidary batch -q prompts.jsonl -o whole.jsonl --seed 0"
        code, printed = self.run_script(merge)
        self.assertEqual((code, printed), (0, ""))
        self.assertEqual(settled(self.file("merged.jsonl")), settled(self.file("whole.jsonl")))

    def test_the_slurm_script(self):
        """As Slurm would run it: once a task."""
        for _, words, text in self.blocks("scaling.md"):
            if words in ("prompts.jsonl", "answers.sbatch"):
                self.write(words, text)
        low, high = re.search(r"--array=(\d+)-(\d+)\n", self.file("answers.sbatch").decode()).groups()
        for task in range(int(low), int(high) + 1):
            env = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_MIN": low, "SLURM_ARRAY_TASK_MAX": high,
                   "SLURM_ARRAY_TASK_STEP": "1", "SLURM_ARRAY_TASK_COUNT": high, "SLURM_CPUS_PER_TASK": "1"}
            self.assertEqual(self.run_script("bash answers.sbatch", env), (0, ""))
        self.merged_is_one_batch("array.*-of-4.jsonl")

    def test_the_command_of_the_manifest(self):
        manifest = next(text for _, words, text in self.blocks("scaling.md") if words == "job.yaml")
        self.write("prompts.jsonl", next(text for _, words, text in self.blocks("scaling.md") if words == "prompts.jsonl"))
        os.symlink(TINY, os.path.join(self.work, "model.gguf"))
        command = re.search(r"command: \[(.*)\]", manifest)[1].replace('"', "").split(", ")
        pods = int(re.search(r"completions: (\d+)", manifest)[1])
        for pod in range(pods):
            words = " ".join(f"'{word}'" for word in command)
            self.assertEqual(self.run_script(words, {"JOB_COMPLETION_INDEX": str(pod)}), (0, ""))
        self.merged_is_one_batch("pods.*-of-4.jsonl")


if __name__ == "__main__":
    main()
