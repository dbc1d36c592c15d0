"""Completing a prompt: sources of the prompt, JSON, stops, seeds, interrupts, pipes and terminals."""

import json
import os
import resource
import signal
import subprocess
import time

from harness import LAPIDARY, TINY, Case, Terminal, main


class Prompt(Case):
    def test_sources_are_joined(self):
        whole = self.generate("-p", "one\ntwo", "-n", "1", "--no-chat")["prompt_ids"]
        two = self.path("two.txt", "two\n")
        for words, text in [
            (["-p", "one", "-f", two], "three\n"),
            (["-p", "one", "-f", "-"], "two\n"),
            ([], "one\ntwo"),
            (["-f", "-"], "one\ntwo"),
        ]:
            with self.subTest(words=words):
                got = self.generate(*words, "-n", "1", "--no-chat", input=text)
                self.assertEqual(got["prompt_ids"], whole)

    def test_prompt_ids(self):
        ids = json.loads(self.ok("tokenize", "-m", TINY, "some text"))
        plain = self.generate("-p", "some text", "-n", "1", "--no-chat")["prompt_ids"]
        self.assertEqual(plain, [2] + ids)
        chat = self.generate("-p", "some text", "-n", "1", "--chat")["prompt_ids"]
        template = "<start_of_turn>user\nsome text<end_of_turn>\n<start_of_turn>model\n"
        self.assertEqual(
            chat, [2] + json.loads(self.ok("tokenize", "-m", TINY, "--parse-control", template))
        )
        # The tiny model has no chat template: plain text is its default.
        self.assertEqual(self.generate("-p", "some text", "-n", "1")["prompt_ids"], plain)

    def test_text_cannot_forge_a_turn(self):
        ids = self.generate("-p", "<end_of_turn>", "-n", "1", "--no-chat")["prompt_ids"]
        self.assertNotIn(106, ids)

    def test_a_base_model_is_named_when_it_is_to_chat(self):
        done = self.run_cli("generate", "-m", TINY, "-p", "x", "-n", "1", "--chat")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"base model", done.stderr)


class Output(Case):
    def test_json(self):
        got = self.generate("-p", "hello", "-n", "8", "--seed", "3")
        self.assertEqual(
            list(got), ["text", "ids", "prompt_ids", "finish_reason", "seed", "usage", "timings"]
        )
        self.assertEqual(got["seed"], 3)
        self.assertLessEqual(len(got["ids"]), 8)
        self.assertEqual(
            got["usage"],
            {
                "prompt_tokens": len(got["prompt_ids"]),
                "completion_tokens": len(got["ids"]),
                "cached_tokens": 0,
            },
        )
        self.assertGreater(got["timings"]["prefill_seconds"], 0)

    def test_seeds_are_random_unless_told_and_reported(self):
        first, second = (self.generate("-p", "hello", "-n", "20") for _ in range(2))
        self.assertNotEqual(first["seed"], second["seed"])
        self.assertNotEqual(first["ids"], second["ids"])
        again = self.generate("-p", "hello", "-n", "20", "--seed", str(first["seed"]))
        self.assertEqual(again["ids"], first["ids"])
        minus = self.generate("-p", "hello", "-n", "20", "--seed", "-1")
        self.assertNotIn(minus["seed"], (first["seed"], second["seed"]))
        done = self.run_cli("generate", "-m", TINY, "-p", "x", "-n", "1", "--seed", "7")
        self.assertIn(b"; seed 7\n", done.stderr)

    def test_text_is_the_text_of_the_ids(self):
        options = ["-p", "hello", "-n", "30", "--seed", "3"]
        got = self.generate(*options)
        done = self.run_cli("generate", "-m", TINY, *options)
        self.assertEqual(
            done.stdout.decode(errors="replace").removesuffix("\n"), got["text"].removesuffix("\n")
        )
        self.assertIn(b"t/s", done.stderr)
        self.assertEqual(self.run_cli("generate", "-q", "-m", TINY, *options).stderr, b"")

    def test_length(self):
        got = self.generate(*self.endless(), "-n", "7")
        self.assertEqual((got["finish_reason"], len(got["ids"])), ("length", 7))

    def test_context_is_a_limit(self):
        got = self.generate(*self.endless(), "-c", "40")
        self.assertEqual(got["finish_reason"], "length")
        self.assertIn(len(got["prompt_ids"]) + len(got["ids"]), (40, 41))

    def test_stop_strings_span_tokens_and_are_not_printed(self):
        options = self.endless()
        whole = self.generate(*options, "-n", "40")
        text = whole["text"]
        # Ten characters of several tokens, the first time that they occur.
        starts = [i for i in range(10, len(text) - 10) if text.find(text[i : i + 10]) == i]
        at = next(i for i in starts if "\ufffd" not in text[i : i + 10])
        stop = text[at : at + 10]
        got = self.generate(*options, "-n", "40", "--stop", "never this", "--stop", stop)
        self.assertEqual((got["finish_reason"], got["text"]), ("stop", text[:at]))
        self.assertLess(len(got["ids"]), len(whole["ids"]))
        printed = self.ok("generate", "-m", TINY, *options, "-n", "40", "--stop", stop)
        self.assertEqual(self.without_bad_bytes(printed), self.without_bad_bytes(text[:at]))

    def without_bad_bytes(self, text):
        return text.replace("\ufffd", "").rstrip("\n")

    def test_brackets_in_a_stop_string_are_text(self):
        options = self.endless()
        text = self.generate(*options, "-n", "20")["text"]
        self.assertEqual(
            self.generate(*options, "-n", "20", "--stop", f"[{text[3]},{text[4]}]")["text"], text
        )

    def test_the_same_seed_gives_the_same_text_on_any_schedule(self):
        options = ["-p", "word " * 100, "-n", "40", "--seed", "11"]
        wanted = self.generate(*options, "-t", "1")["ids"]
        self.assertEqual(self.generate(*options, "-t", "2")["ids"], wanted)
        self.assertEqual(self.generate(*options, "-t", "3", "--chunk", "7")["ids"], wanted)
        self.assertNotEqual(
            self.generate("-p", "word " * 100, "-n", "40", "--seed", "12")["ids"], wanted
        )

    def test_greedy_needs_no_seed(self):
        options = ["-p", "hello", "-n", "20", "--temp", "0"]
        self.assertEqual(
            self.generate(*options, "--seed", "1")["ids"],
            self.generate(*options, "--seed", "2")["ids"],
        )


class Speculation(Case):
    OPTIONS = ["-p", "tick tock " * 30, "-n", "40", "--temp", "0", "--no-chat"]

    def test_the_text_is_the_same(self):
        plain = self.generate(*self.OPTIONS, "--speculation", "off")
        self.assertEqual(plain["timings"]["drafted_tokens"], 0)
        for mode in ("auto", "always"):
            for draft in ([], ["--draft", TINY]):
                got = self.generate(*self.OPTIONS, "--speculation", mode, *draft)
                self.assertEqual(got["ids"], plain["ids"], (mode, draft))
        self.assertGreater(got["timings"]["accepted_tokens"], 0)

    def test_guesses_are_told(self):
        done = self.run_cli("generate", "-m", TINY, *self.OPTIONS, "--speculation", "always")
        self.assertRegex(done.stderr.decode(), r"\d+ of \d+ guesses right")

    def test_bad_use(self):
        self.fails(
            2, "speculation", "generate", "-m", TINY, "-p", "x", "--speculation", "sometimes"
        )
        self.fails(
            3, "none.gguf", "generate", "-m", TINY, "-p", "x", "--draft", self.path("none.gguf")
        )


class Pipes(Case):
    def test_closed_pipe_is_silent(self):
        process = self.start("generate", "-m", TINY, *self.endless(), "-c", "100000")
        process.stdout.read(1)
        process.stdout.close()
        self.assertEqual(process.wait(60), 1)
        self.assertEqual(process.stderr.read(), b"")

    def test_head(self):
        command = (
            f'"{LAPIDARY}" tokenize -m "{TINY}" --jsonl "$1" | head -1; echo "${{PIPESTATUS[0]}}"'
        )
        lines = self.path("lines.jsonl", '{"text": "hello hello hello hello"}\n' * 50000)
        done = subprocess.run(
            ["bash", "-c", command, "bash", lines],
            capture_output=True,
            text=True,
            env=self.environment,
        )
        self.assertEqual(done.stdout.splitlines()[1:], ["1"])
        self.assertEqual(done.stderr, "")

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [LAPIDARY, "tokenize", "-m", TINY, "x"],
                stdout=full,
                stderr=subprocess.PIPE,
                env=self.environment,
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space", done.stderr)


def children_seconds():
    """Processor time of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Interrupts(Case):
    def test_in_decode_the_text_stays(self):
        options = self.endless()
        process = self.start("generate", "-m", TINY, *options, "-c", "100000")
        text = b""
        while len(text) < 40:  # Not stdout.read: communicate() would not see what that reads ahead.
            text += os.read(process.stdout.fileno(), 20)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        wanted = self.run_cli("generate", "-m", TINY, *options, "-n", "600").stdout
        got = (text + rest).removesuffix(b"\n")
        size = min(len(got) - 4, len(wanted) - 1)  # It may end within a character.
        self.assertGreaterEqual(size, 20)
        self.assertEqual(got[:size], wanted[:size])

    def test_in_prefill(self):
        words = "some words of a very long prompt " * 12000
        long = self.path("long.txt", words)
        before = children_seconds()
        count = len(json.loads(self.ok("tokenize", "-m", TINY, input=words)))
        loading = children_seconds() - before
        start = time.monotonic()
        process = self.start(
            "generate", "-m", TINY, "-f", long, "-n", "1", "-c", str(count + 10), "--chunk", "8"
        )
        self.wait_until_working(process, loading)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (130, b""), error)
        self.assertIn(b"interrupted", error)
        self.assertLess(time.monotonic() - start, 30)

    def wait_until_working(self, process, loading):
        """Until it has used half a second of processor time more than what `tokenize` takes to load and to tokenize."""
        tick = os.sysconf("SC_CLK_TCK")
        while process.poll() is None:
            with open(f"/proc/{process.pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            if (int(fields[11]) + int(fields[12])) / tick > loading + 0.5:
                return
            time.sleep(0.01)
        self.fail("it ended before it could be interrupted")


class OnATerminal(Case):
    def test_control_characters_are_dropped(self):
        ids = self.ok("tokenize", "-m", TINY, "a\x1b[31mb\x07\u009b2Jc\x7fd\te").strip()
        self.assertEqual(
            self.ok("tokenize", "-m", TINY, "--decode", ids), "a\x1b[31mb\x07\u009b2Jc\x7fd\te"
        )
        terminal = Terminal(self, "tokenize", "-q", "-m", TINY, "--decode", ids)
        self.assertEqual(terminal.finish(), 0)
        self.assertEqual(terminal.text, "a[31mb2Jcd\te\r\n")

    def test_text_cannot_be_turned_around(self):
        turned = "a\u202eb\u2066c\u2069d\u202c"
        ids = self.ok("tokenize", "-m", TINY, turned).strip()
        terminal = Terminal(self, "tokenize", "-q", "-m", TINY, "--decode", ids)
        self.assertEqual(terminal.finish(), 0)
        self.assertEqual(terminal.text, "abcd\r\n")
        error = self.fails(3, "abc", "inspect", self.path("x\u202eabc.gguf"))
        self.assertNotIn("\u202e", error)

    def test_repairs_of_the_vocabulary_are_not_told_at_every_start(self):
        terminal = Terminal(self, "generate", "-m", TINY, "-p", "hello", "-n", "1")
        self.assertEqual(terminal.finish(), 0)
        self.assertNotIn("warning", terminal.text)

    def test_generate_never_waits_for_a_terminal(self):
        terminal = Terminal(self, "generate", "-m", TINY, "-p", "hello", "-n", "3")
        self.assertEqual(terminal.finish(), 0)
        terminal = Terminal(self, "generate", "-m", TINY)
        self.assertEqual(terminal.finish(), 2)
        self.assertIn("the prompt is empty", terminal.text)


if __name__ == "__main__":
    main()
