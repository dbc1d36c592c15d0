"""What a command line says that is wrong, where a model is looked for, and which text a prompt is."""

import json
import os
import shutil
import subprocess
import unittest

from harness import LAPIDARY, TINY, Case, main


class Unknown(Case):
    def test_the_first_one_is_named_and_a_near_one_suggested(self):
        for words, said in [
            (["generate", "--tempt", "1", "--zz", "2"], "no option --tempt; did you mean --temp?"),
            (["generate", "--temperature", "1"], "did you mean --temp?"),
            (["generate", "--max-token=3"], "no option --max-token; did you mean --max-tokens?"),
            (["generate", "--n-predict", "3"], "did you mean --max-tokens?"),
            (["generate", "--zzzzzz", "3"], "no option --zzzzzz (see lapidary generate --help)"),
            (["bench", "--temperature", "1"], "(see lapidary bench --help)"),
            (["genrate", "-p", "x"], "no subcommand genrate; did you mean generate?"),
            (["--frobnicate"], "no option --frobnicate (see lapidary --help)"),
            (["generate", "-ngl", "3", "-p", "x"], "no option -ngl: there is no GPU"),
            (["generate", "-cx", "-p", "x"], "no option -cx"),
        ]:
            with self.subTest(words=words):
                self.fails(2, said, *words)

    def test_values(self):
        for words, said in [
            (["-c", "5.5"], "--context: expected a whole number from 0 to 268435456, got 5.5"),
            (["-t", "many"], "--threads: expected a whole number from 0 to 1024, got many"),
            (["--speculation", "on"], "expected one of auto, off, always, got on"),
            (["--top-k", "5.5"], "--top-k: expected a whole number from 0 to 2147483647, got 5.5"),
            (["--stop", ""], "--stop: expected text, got nothing"),
            (["--seed", "9007199254740993.5"], "from 0 to 18446744073709551615, or -1"),
        ]:
            with self.subTest(words=words):
                self.fails(2, said, "generate", "-m", TINY, "-p", "x", *words)

    def test_a_bad_value_is_named_by_where_it_came_from(self):
        said = self.fails(2, "LAPIDARY_TEMP: ", "generate", "-p", "x", env={"LAPIDARY_TEMP": "hot"})
        self.assertNotIn("--temp", said)
        config = self.path("settings.toml", 'temp = "hot"\n')
        self.fails(2, "settings.toml: temp: ", "--config", config, "generate", "-p", "x")
        self.fails(2, ": --temp: ", "generate", "--temp", "hot", env={"LAPIDARY_TEMP": "1"})


    def test_words_that_would_be_cut_in_two(self):
        for words, expected in [
            (["-fa"], "no option -fa: there is nothing to switch on (see lapidary generate"),
            (["-print"], "no option -print; a value stands apart: -p rint"),
            (["-md", "x"], "no option -md; a value stands apart: -m d"),
            (["-ngl", "3"], "no option -ngl: there is no GPU"),
            (["-q", "-prompt", "x"], "no option -prompt"),
            (["--temp", "hot", "-p", "-nothing"], "--temp: expected a number"),
        ]:
            self.fails(2, expected, "generate", *words)
        self.ok("generate", "-m", TINY, "-q", "-n1", "-p", "-fa")
        self.ok("generate", "-m", TINY, "-q", "-n1", "--", "-fa")

    def test_an_unknown_option_is_told_before_what_is_missing(self):
        self.fails(2, "no option --bogus", "batch", "--bogus")
        self.fails(2, "no option --bogus", "batch", "--bogus", "in.jsonl")
        self.fails(2, "--out is required", "batch", "in.jsonl")

    def test_flags_of_the_environment(self):
        one = ["generate", "-m", TINY, "-n", "1", "x"]
        self.fails(2, "LAPIDARY_QUIET: expected true or false, got maybe", *one, env={"LAPIDARY_QUIET": "maybe"})
        # Of another command.
        self.ok(*one, env={"LAPIDARY_RETRY_FAILED": "maybe"})
        # A prompt that is typed counts more.
        typed = self.generate("-n", "0", "typed")["usage"]
        self.assertEqual(self.generate("-n", "0", "typed", env={"LAPIDARY_PROMPT": "another one"})["usage"], typed)
        self.fails(2, "two prompts", "generate", "-m", TINY, "-p", "x", "y")
        self.assertEqual(
            self.ok("tokenize", "-m", TINY, "typed", env={"LAPIDARY_TOKENIZE_PROMPT": "x"}),
            self.ok("tokenize", "-m", TINY, "typed"),
        )

    def test_files_of_options(self):
        for text, expected in [
            ("tempt = 1\n", "c: no option is called tempt; did you mean temp?"),
            ("[generat]\ntemp = 1\n", "c: no subcommand is called generat; did you mean generate?"),
            ("[generate]\ntemperature = 1\n", "c: no option is called generate.temperature"),
            ("temp = [1, 2]\n", "c: temp: expected one value, found 2"),
            ("temp = [1, 2\n", "c: temp: the list has no ]"),
            ('stop = ["a",\ntemp = 1\n', "c: stop: the list has no ]"),
            ("temp = hot\n", "c: temp: expected a number from 0"),
            ("quiet = maybe\n", "c: quiet: expected true or false, got maybe"),
        ]:
            config = self.path("c", text)
            self.fails(2, expected, "generate", "--config", config, "-m", TINY, "-n", "1", "x")
        config = self.path("c", 'stop = ["a",\n  "b"]\nretry-failed = true\n')
        self.ok("generate", "--config", config, "-m", TINY, "-n", "1", "x")
        self.fails(3, "cannot open /nope/c, the file of options", "generate", "x", env={"LAPIDARY_CONFIG": "/nope/c"})

    def test_one_is_no_plural(self):
        done = self.run_cli("generate", "-m", TINY, "-n", "1", "x")
        self.assertIn(b"decode 1 token in", done.stderr)


class Settings(Case):
    def perplexity(self, *words, env=None):
        text = self.path("t.txt", "a gem is cut slowly. " * 40)
        got = self.ok("perplexity", "-q", "--json", "-m", TINY, "-f", text, *words, env=env)
        return json.loads(got)["context"]

    def test_a_context_for_conversations_is_no_chunk_of_a_perplexity(self):
        self.assertEqual(self.perplexity("-c", "32"), 32)
        config = self.path("settings.toml", "context = 4096\n")
        in_section = self.path("section.toml", "[perplexity]\ncontext = 24\n")
        env = {"LAPIDARY_CONTEXT": "4096", "LAPIDARY_PERPLEXITY_CONTEXT": "16"}
        self.assertEqual(self.perplexity(env=env), 16)
        self.assertEqual(self.perplexity("--config", config, env=env), 16)
        self.assertEqual(self.perplexity("--config", in_section), 24)

    def test_an_output_file_of_batches_is_not_written_by_other_commands(self):
        ids = self.path("ids.i32", (2).to_bytes(4, "little"))
        self.fails(2, "--out", "logits", "-m", TINY, "--ids", ids, env={"LAPIDARY_OUT": "x"})


class Models(Case):
    def setUp(self):
        super().setUp()
        self.models = os.path.join(self.folder, "models")
        os.mkdir(self.models)
        self.environment["LAPIDARY_HOME"] = self.models

    def add(self, *names):
        for name in names:
            shutil.copy(TINY, os.path.join(self.models, name))

    def ids(self, *words):
        return self.ok("tokenize", *words, "hello")

    def test_a_name_is_looked_for_in_the_folder(self):
        self.add("small-q4.gguf", "large-q8.gguf", "small-mmproj.gguf")
        wanted = self.ids("-m", TINY)
        for name in ("small-q4.gguf", "small-q4", "small", "large-q8"):
            self.assertEqual(self.ids("-m", name), wanted)

    def test_paths_come_first(self):
        self.add("x.gguf")
        here = os.path.join(self.folder, "x.gguf")
        with open(here, "wb") as file:
            file.write(b"no model")
        done = subprocess.run(
            [LAPIDARY, "tokenize", "-m", "x.gguf", "hello"],
            cwd=self.folder, env=self.environment, capture_output=True,
        )
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"x.gguf", done.stderr)

    def test_what_there_is_is_listed(self):
        self.fails(2, "tools/get_model.py", "tokenize", "hello")
        self.add("small-q4.gguf", "small-q8.gguf", "other.gguf")
        self.fails(2, "other.gguf, small-q4.gguf, small-q8.gguf", "tokenize", "hello")
        self.fails(2, "small-q4.gguf, small-q8.gguf", "tokenize", "-m", "small", "hello")
        self.fails(3, "has other.gguf, small-q4.gguf", "tokenize", "-m", "huge", "hello")
        self.fails(3, "No such file", "tokenize", "-m", "/nowhere/huge.gguf", "hello")


class Prompts(Case):
    def prompt_ids(self, *words, input=b""):
        return self.generate("-n", "1", *words, input=input)["prompt_ids"]

    def test_standard_input_is_left_alone_beside_a_prompt(self):
        script = (
            'while read -r line; do "$0" generate -q -m "$1" -n 1 --json -p "$line"; done'
        )
        done = subprocess.run(
            ["sh", "-c", script, LAPIDARY, TINY],
            input=b"one\ntwo\nthree\n", env=self.environment, capture_output=True,
        )
        self.assertEqual(len(done.stdout.splitlines()), 3, done.stderr)

    def test_sources(self):
        wanted = self.prompt_ids("-p", "hello gem")
        file = self.path("prompt.txt", "hello gem\n")
        self.assertEqual(self.prompt_ids("hello gem"), wanted)
        self.assertEqual(self.prompt_ids("-f", file), wanted)
        self.assertEqual(self.prompt_ids("-f", "-", input=b"hello gem\n"), wanted)
        self.assertEqual(self.prompt_ids(input=b"hello gem"), wanted)
        both = self.prompt_ids("-p", "hello", "-f", self.path("more.txt", "gem"))
        self.assertEqual(both, self.prompt_ids("-p", "hello\ngem"))
        self.fails(2, "two prompts", "generate", "-m", TINY, "-p", "x", "y")

    def test_marks_and_line_ends_of_a_file_are_not_the_prompt(self):
        wanted = self.prompt_ids("-p", "hello")
        for text in (b"hello\r\n", b"hello\n", b"\xef\xbb\xbfhello", b"\xef\xbb\xbfhello\r\n"):
            with self.subTest(text=text):
                self.assertEqual(self.prompt_ids(input=text), wanted)
                self.assertEqual(self.prompt_ids("-f", self.path("p.txt", text)), wanted)
        self.assertEqual(self.prompt_ids(input=b"hello\n\n"), self.prompt_ids("-p", "hello\n"))

    def test_tokenize_takes_a_text_as_generate_does(self):
        wanted = self.ok("tokenize", "-m", TINY, "hello")
        self.assertEqual(self.ok("tokenize", "-m", TINY, "-p", "hello"), wanted)
        self.assertEqual(self.ok("tokenize", "-m", TINY, "-f", self.path("t", "hello")), wanted)
        self.fails(2, "several texts", "tokenize", "-m", TINY, "-p", "hello", "hello")


class Streams(Case):
    def shell(self, script):
        return subprocess.run(
            ["sh", "-c", script, LAPIDARY, TINY], env=self.environment, capture_output=True
        )

    def test_closed_ones(self):
        done = self.shell('"$0" generate -q -m "$1" -n 1 -p x <&-')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(self.shell('"$0" generate -q -m "$1" -n 1 -p x >&-').returncode, 0)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_help_that_cannot_be_written(self):
        for words in ("--help", "--version", "generate --help"):
            done = self.shell(f'"$0" {words} > /dev/full')
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"cannot write", done.stderr)

    def test_version(self):
        self.assertEqual(self.ok("-v"), self.ok("--version"))

    def test_quiet_has_no_warnings(self):
        self.assertEqual(self.run_cli("generate", "-q", "-m", TINY, "--chat", "-n", "1", "x").stderr, b"")


if __name__ == "__main__":
    main()
