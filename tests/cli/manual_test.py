"""The manual page and the completion scripts know all that --help knows, and do what they say."""

import os
import re
import shutil
import subprocess
import unittest

from harness import LAPIDARY, TINY, Case, main

# "  -n,--max-tokens INT=-1 (Env:LAPIDARY_MAX_TOKENS)"
OPTION = re.compile(r"^  (-[^ {]+)(?:\{\w+\})?(?: (?!.*\(Env:)| [^ ].*?\(Env:(\w+)\)| |$)", re.MULTILINE)


class Manual(Case):
    def setUp(self):
        super().setUp()
        for folder in ("bin", "work", "models"):
            os.mkdir(self.path(folder))
        os.symlink(LAPIDARY, self.path("bin/lapidary"))
        self.environment["LAPIDARY_HOME"] = self.path("models")
        self.environment["PATH"] = self.path("bin") + ":" + self.environment["PATH"]

    def commands(self):
        listed = self.ok("--help").split("Subcommands:\n")[1].split("\n\n")[0]
        names = re.findall(r"^  ([\w-]+) ", listed, re.MULTILINE)
        self.assertGreater(len(names), 10)
        return names

    def options(self, *command):
        """The names of each option that --help lists, and its environment twin."""
        listed = self.ok(*command, "--help").split("\nOptions:\n")[1].split("\n\n")[0]
        options = [(names.split(","), twin) for names, twin in OPTION.findall(listed)]
        self.assertEqual(len(options), len(re.findall(r"^  -", listed, re.MULTILINE)))
        return options

    def script(self, *command):
        """The lines of the scripts, and of the page, that are about `command`."""
        name = command[0] if command else ""
        page = self.ok("manual").replace("\\-", "-")
        head = f".SS lapidary {name}\n" if name else ".SH OPTIONS\n"
        self.assertIn(head, page)
        zsh = self.ok("completion", "zsh")
        if name:
            zsh = zsh.split(f"        {name}) _arguments")[1]
        condition = f" -n '__fish_seen_subcommand_from {name}'" if name else ""
        fish = [line for line in self.ok("completion", "fish").splitlines() if condition in line]
        return {
            "page": re.split(r"^\.S[SH] ", page.split(head)[1], maxsplit=1, flags=re.MULTILINE)[0],
            "bash": self.complete(*command, "-"),
            "zsh": zsh.split("]' ;;" if name else "'1:")[0],
            "fish": "\n".join(fish) + "\n",
        }

    def test_everything_is_in_them(self):
        count = 0
        for command in [(), *((name,) for name in self.commands())]:
            about = self.script(*command)
            for names, twin in self.options(*command):
                for name in names:
                    with self.subTest(command=command, name=name):
                        count += 1
                        word = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
                        self.assertIn(name, about["bash"])
                        self.assertRegex(about["zsh"], word)
                        if command and "--help" in names:
                            continue
                        self.assertRegex(about["page"], rf"\\fB{re.escape(name)}\\fR")
                        short = name[1] != "-"
                        self.assertRegex(about["fish"], f" {'-s' if short else '-l'} {name.lstrip('-')} ")
                if twin:
                    self.assertIn(f"Environment: {twin}\n", about["page"])
        self.assertGreater(count, 200)

    def complete(self, *words):
        """What bash offers for the last of `words`, program left out."""
        script = """source <(lapidary completion bash); COMP_WORDS=(lapidary "$@"); COMP_CWORD=$#
                    _lapidary lapidary; ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}" """
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", *words], cwd=self.path("work"),
            env=self.environment, capture_output=True, text=True,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_bash(self):
        for name in ("my text.txt", "a*b"):
            self.path("work/" + name, "")
        os.mkdir(self.path("work/generate"))
        files = ["a*b", "generate", "my text.txt"]
        for words, wanted in (
            ("gen", ["generate"]),
            ("--config settings gen", ["generate"]),
            ("--config=settings gen", ["generate"]),
            ("--config ", files),
            ("generate --config m", ["my text.txt"]),
            ("generate --spec", ["--speculation"]),
            ("generate --no-c", ["--no-chat"]),
            ("generate --speculation ", ["always", "auto", "off"]),
            ("generate --speculation=a", ["always", "auto"]),
            ("generate -f ", files),
            ("generate --file=m", ["my text.txt"]),
            ("generate --image-cache ", ["generate"]),
            ("generate --top-k m", []),
            ("generate m", []),
            ("batch ", files),
            ("batch --retry", ["--retry-failed"]),
            ("completion ", ["bash", "fish", "models", "zsh"]),
            ("nonsense ", []),
        ):
            with self.subTest(words=words):
                # Bash takes a "=" for a word.
                got = self.complete(*re.sub("=", " = ", words).split(" "))
                self.assertEqual(sorted(got), wanted)
        self.assertEqual(self.complete(""), self.commands())

    def test_names_of_models(self):
        strange = "$(touch found)"
        for name in ("b c.gguf", "a.gguf", "mmproj-a.gguf", strange + ".gguf"):
            self.path("models/" + name, "")
        names = [strange, "a", "b c"]
        self.assertEqual(self.ok("completion", "models").splitlines(), names)
        for words in (("generate", "-m", ""), ("generate", "--draft", ""), ("inspect", "")):
            self.assertEqual(self.complete(*words), names)
        self.path("work/b.gguf", "")
        self.assertEqual(self.complete("chat", "--model", "b"), ["b c", "b.gguf"])
        self.assertEqual(os.listdir(self.path("work")), ["b.gguf"])  # No name was run.

    def test_other_shells_can_read_theirs(self):
        for shell in ("bash", "zsh", "fish"):
            if shutil.which(shell):
                script = self.path(shell, self.ok("completion", shell))
                subprocess.run([shell, "-n", script], check=True)

    @unittest.skipUnless(shutil.which("fish"), "needs fish")
    def test_fish(self):
        self.path("models/a model.gguf", "")
        for words, wanted in (
            ("lapidary --config x gen", "generate"),
            ("lapidary generate --speculation al", "always"),
            ("lapidary generate -m ", "a model"),
        ):
            script = f"lapidary completion fish | source; complete -C '{words}'"
            done = subprocess.run(
                ["fish", "-N", "-c", script], cwd=self.path("work"), env=self.environment, capture_output=True, text=True
            )
            self.assertEqual(done.stdout.split("\t")[0].strip(), wanted, done.stderr)

    @unittest.skipUnless(shutil.which("mandoc"), "needs mandoc")
    def test_the_page_is_sound(self):
        done = subprocess.run(
            ["mandoc", "-T", "lint", "-W", "warning"], input=self.ok("manual"), capture_output=True, text=True
        )
        complaints = [line for line in done.stdout.splitlines() if "missing date" not in line]
        self.assertEqual(complaints, [])

    def test_the_page_is_plain(self):
        page = self.ok("manual")
        self.assertTrue(page.isascii())
        # A bare one would be set as a typographic sign.
        for line in page.splitlines():
            self.assertNotRegex(line, r"(?<!\\)-|[~^`]|(?<!^\.TH)'", line)
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS",
                        "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"):
            self.assertEqual(page.count(f"\n.SH {section}\n"), 1)
        for code in (0, 1, 2, 3, 4, 5, 130):
            self.assertIn(f"\n.TP\n\\fB{code}\\fR\n", page)
        self.assertIn("\\fIauto|off|always\\fR\n", page)

    def test_the_examples_are_true(self):
        examples = re.findall(r"^\.RS\n(.*)\n\.RE$", self.ok("manual").replace("\\-", "-"), re.MULTILINE)
        self.assertGreater(len(examples), 3)
        os.symlink(TINY, self.path("models/gemma-3-1b-it-q4_0.gguf"))
        self.path("work/prompt.txt", "Once upon a time\n")
        self.path("work/requests.jsonl", '{"prompt": "Once", "max_tokens": 2}\n')
        self.environment["LAPIDARY_MAX_TOKENS"] = "8"
        for example in examples:
            done = subprocess.run(
                ["bash", "-c", example.replace("\\(ti", "~")], cwd=self.path("work"), env=self.environment,
                stdin=subprocess.DEVNULL, capture_output=True,
            )
            self.assertEqual(done.returncode, 0, example + done.stderr.decode(errors="replace"))

    def test_settings_do_not_change_them(self):
        plain = self.ok("manual")
        env = {"LAPIDARY_TEMP": "0.25", "LAPIDARY_SPECULATION": "off"}
        self.assertEqual(self.ok("manual", env=env), plain)


if __name__ == "__main__":
    main()
