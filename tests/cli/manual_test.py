"""The manual page and the completion scripts know all that --help knows."""

import os
import re
import shutil
import subprocess
import unittest

from harness import LAPIDARY, Case, main

COMMANDS = ("generate", "chat", "batch", "tokenize", "logits", "perplexity", "inspect", "bench", "encode-image")


class Manual(Case):
    def options(self):
        for command in COMMANDS:
            for name in re.findall(r"^  (?:-\w,)?(--[\w-]+)", self.ok(command, "--help"), re.MULTILINE):
                yield command, name

    def test_everything_is_in_them(self):
        page = self.ok("manual").replace("\\-", "-")
        bash = self.ok("completion", "bash")
        zsh = self.ok("completion", "zsh")
        fish = self.ok("completion", "fish")
        count = 0
        for command, name in self.options():
            count += 1
            self.assertIn(f"lapidary {command}\n", page)
            if name != "--help":
                self.assertIn(name, page)
            self.assertIn(name, zsh)
            self.assertIn(f"-l {name[2:]}", fish)
            line = next(line for line in bash.splitlines() if line.startswith(f"    {command}:*)"))
            self.assertIn(name, line.split("'")[1].split())
        self.assertGreater(count, 100)

    def complete(self, *words):
        script = 'source <("$0" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lapidary; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "--norc", "-c", script, LAPIDARY, *words], cwd=self.folder,
            env=self.environment, capture_output=True, text=True,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash(self):
        self.assertEqual(self.complete("lapidary", "gen"), ["generate"])
        self.assertEqual(self.complete("lapidary", "generate", "--spec"), ["--speculation"])
        self.assertEqual(
            self.complete("lapidary", "generate", "--speculation", "a"), ["auto", "always"]
        )
        self.path("prompt.txt", "")
        self.assertEqual(self.complete("lapidary", "generate", "-f", "pro"), ["prompt.txt"])
        self.assertEqual(self.complete("lapidary", "generate", "--top-k", "pro"), [])

    @unittest.skipUnless(shutil.which("mandoc"), "needs mandoc")
    def test_the_page_is_sound(self):
        done = subprocess.run(
            ["mandoc", "-T", "lint", "-W", "error"], input=self.ok("manual"), capture_output=True, text=True
        )
        self.assertEqual(done.stdout, "")

    def test_other_shells_can_read_theirs(self):
        for shell in ("zsh", "fish"):
            if shutil.which(shell):
                script = self.path(shell, self.ok("completion", shell))
                subprocess.run([shell, "-n", script], check=True)

    def test_names_of_models(self):
        os.makedirs(self.path("models"))
        for name in ("b.gguf", "a.gguf", "mmproj-a.gguf"):
            self.path("models/" + name, "")
        env = {"LAPIDARY_HOME": self.path("models")}
        self.assertEqual(self.ok("completion", "models", env=env), "a\nb\n")


if __name__ == "__main__":
    main()
