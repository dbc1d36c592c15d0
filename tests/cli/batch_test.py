"""Batches: both formats, errors that cost one line, and going on after a kill."""

import json
import os
import signal
import time

from harness import TINY, Case, main, settled


def lines_of(path):
    with open(path, "rb") as file:
        return [json.loads(line) for line in settled(file.read()).splitlines()]


class Batch(Case):
    def batch(self, *requests, code=0, options=()):
        """The answers to `requests`, dictionaries or lines of text."""
        text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
        done = self.run_cli(
            "batch", "-m", TINY, self.path("in.jsonl", text), "-o", self.path("out.jsonl"), *options
        )
        self.assertEqual(done.returncode, code, done.stderr)
        return lines_of(self.path("out.jsonl"))

    def test_prompt(self):
        (got,) = self.batch({"id": "a", "prompt": "hello", "max_tokens": 9, "seed": 3})
        wanted = self.generate("-p", "hello", "-n", "9", "--seed", "3")
        self.assertRegex(got.pop("digest"), "^[0-9a-f]{16}$")
        self.assertEqual(
            got,
            {
                "id": "a",
                "text": wanted["text"],
                "finish_reason": wanted["finish_reason"],
                "usage": {**wanted["usage"], "seed": 3},
            },
        )

    def test_order_and_options(self):
        got = self.batch(
            {"id": 1, "prompt": "hello", "max_tokens": 3, "temperature": 0},
            {
                "id": "two",
                "prompt": "hello",
                "max_tokens": 5,
                "temperature": 0,
                "top_k": 4,
                "top_p": 0.5,
                "min_p": 0.1,
            },
            {"prompt": "hello", "temperature": 0},
            options=["-n", "4"],
        )
        self.assertEqual([line["id"] for line in got], [1, "two", None])
        counts = [line["usage"]["completion_tokens"] for line in got]
        self.assertTrue(counts[0] <= 3 and counts[1] <= 5 and counts[2] <= 4, counts)
        self.assertTrue(got[1]["text"].startswith(got[0]["text"]))

    def test_messages(self):
        (got,) = self.batch(
            {
                "id": "m",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "hello"},
                    {"role": "assistant", "content": "yes?"},
                    {"role": "user", "content": "go on"},
                ],
                "max_tokens": 2,
            }
        )
        template = (
            "<start_of_turn>user\nBe brief.\n\nhello<end_of_turn>\n<start_of_turn>model\nyes?<end_of_turn>\n"
            "<start_of_turn>user\ngo on<end_of_turn>\n<start_of_turn>model\n"
        )
        count = 1 + len(json.loads(self.ok("tokenize", "-m", TINY, "--parse-control", template)))
        self.assertEqual(got["usage"]["prompt_tokens"], count)

    def test_stop(self):
        options = self.endless()
        seed = int(options[-1])
        request = {"id": 0, "prompt": "hello", "max_tokens": 40, "seed": seed, "top_k": 3}
        whole = self.generate(*options, "-n", "40")["text"]
        at = next(i for i in range(5, len(whole) - 3) if whole.find(whole[i : i + 3]) == i)
        got = self.batch(
            {**request, "stop": whole[at : at + 3]},
            {**request, "stop": ["never this", whole[at : at + 3]]},
        )
        for line in got:
            self.assertEqual((line["text"], line["finish_reason"]), (whole[:at], "stop"))

    def test_a_bad_line_is_one_error(self):
        bad = [
            "{not json",
            "[1]",
            {"id": "b"},
            {"id": "c", "prompt": "x", "messages": []},
            {"id": "d", "prompt": 5},
            {"id": "e", "prompt": "x", "temperature": -1},
            {"id": "f", "prompt": "x", "max_tokens": 1.5},
            {"id": "g", "prompt": "x", "seed": "s"},
            {"id": "h", "prompt": "x", "stop": [1]},
            {"id": "i", "prompt": ""},
            {"id": "j", "messages": [{"role": "wizard", "content": "x"}]},
            {"id": "k", "prompt": "x", "images": ["a.png"]},
            {"id": "l", "prompt": "word " * 5000},
        ]
        got = self.batch(
            *bad, {"id": "good", "prompt": "x", "max_tokens": 1}, code=1, options=["-c", "1000"]
        )
        self.assertEqual(len(got), len(bad) + 1)
        for line in got[:-1]:
            self.assertEqual(list(line), ["id", "error"])
            self.assertTrue(line["error"]["code"] and line["error"]["message"])
        self.assertEqual([line["id"] for line in got[2:-1]], list("bcdefghijkl"))
        self.assertEqual(got[-2]["error"]["code"], "context_length_exceeded")
        self.assertIn("1000", got[-2]["error"]["message"])
        self.assertIn("text", got[-1])

    def test_invalid_utf8(self):
        done = self.run_cli(
            "batch",
            "-m",
            TINY,
            self.path("in.jsonl", b'{"id": 1, "prompt": "a\xff"}\n'),
            "-o",
            self.path("out.jsonl"),
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(lines_of(self.path("out.jsonl"))[0]["error"]["code"], "invalid_json")

    def test_openai(self):
        chat = {
            "custom_id": "r-1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "any",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
                "max_completion_tokens": 4,
                "temperature": 0,
                "top_p": 1,
                "seed": 3,
                "n": 1,
            },
        }
        bad = {
            "custom_id": "r-2",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user"}]},
        }
        text = {
            "custom_id": "r-3",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": "hello", "max_tokens": 4, "seed": 3},
        }
        got = self.batch(chat, bad, text, code=1)
        self.assertEqual([line["custom_id"] for line in got], ["r-1", "r-2", "r-3"])
        wanted = self.generate("--chat", "-p", "hello", "-n", "4", "--temp", "0")
        response = got[0]["response"]
        self.assertEqual((response["status_code"], got[0]["error"]), (200, None))
        choice = response["body"]["choices"][0]
        self.assertEqual(choice["message"], {"role": "assistant", "content": wanted["text"]})
        self.assertEqual(choice["finish_reason"], wanted["finish_reason"])
        usage = response["body"]["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertEqual(got[1]["response"], None)
        self.assertTrue(got[1]["error"]["message"])
        self.assertEqual(
            got[2]["response"]["body"]["choices"][0]["text"],
            self.generate("-p", "hello", "-n", "4", "--seed", "3")["text"],
        )


class Resume(Case):
    def requests(self, count, tokens):
        return self.path(
            "in.jsonl",
            "".join(
                json.dumps({"id": i, "prompt": f"number {i}", "max_tokens": tokens, "seed": i})
                + "\n\n"
                for i in range(count)
            ),
        )

    def batch(self, out="out.jsonl"):
        return self.run_cli("batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path(out))

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return settled(file.read())

    def test_goes_on_at_any_byte(self):
        self.requests(4, 5)
        self.assertEqual(self.batch().returncode, 0)
        whole = self.content("out.jsonl")
        ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
        for size in [0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[2] - 7, ends[2], ends[3]]:
            self.path("out.jsonl", whole[:size])
            self.assertEqual(self.batch().returncode, 0)
            self.assertEqual(self.content("out.jsonl"), whole, size)

    def test_goes_on_after_a_kill(self):
        self.requests(40, 120)
        self.assertEqual(self.batch("whole.jsonl").returncode, 0)
        for signal_number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
            out = self.path("out.jsonl", "")
            process = self.start("batch", "-m", TINY, self.path("in.jsonl"), "-o", out, "--parallel", "2")
            while os.path.getsize(out) < 500 and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal_number)
            self.assertEqual(process.wait(60), code)
            before = self.content("out.jsonl")
            self.assertGreaterEqual(len(before), 500)
            self.assertLess(len(before), len(self.content("whole.jsonl")))
            self.assertEqual(self.batch().returncode, 0)
            self.assertEqual(self.content("out.jsonl"), self.content("whole.jsonl"))

    def test_failures_before_the_stop_count(self):
        self.path("in.jsonl", '{"id": 1}\n{"id": 2, "prompt": "x", "max_tokens": 1}\n')
        self.assertEqual(self.batch().returncode, 1)
        first = self.content("out.jsonl").splitlines(True)[0]
        self.path("out.jsonl", first)
        self.assertEqual(self.batch().returncode, 1)

    def test_answers_of_another_input_are_left_alone(self):
        self.requests(2, 2)
        old = {"text": "", "finish_reason": "stop", "usage": {}}  # As written before digests were.
        self.path("out.jsonl", json.dumps({"id": "other", **old}) + "\n")
        self.assertEqual(self.batch().returncode, 2)
        self.path("out.jsonl", "a letter to my aunt\n")
        self.assertEqual(self.batch().returncode, 3)
        self.assertEqual(self.content("out.jsonl"), b"a letter to my aunt\n")
        self.path("out.jsonl", "".join(json.dumps({"id": i, **old}) + "\n" for i in range(3)))
        self.assertEqual(self.batch().returncode, 2)

    def test_files(self):
        self.fails(
            3, "none.jsonl", "batch", "-m", TINY, self.path("none.jsonl"), "-o", self.path("out")
        )
        self.fails(3, self.folder, "batch", "-m", TINY, self.folder, "-o", self.path("out"))
        self.fails(
            2, "in.jsonl", "batch", "-m", TINY, self.requests(1, 1), "-o", self.path("in.jsonl")
        )
        self.fails(2, "--out", "batch", "-m", TINY, self.path("in.jsonl"))


if __name__ == "__main__":
    main()
