"""What a batch does to files: nothing that is not its own is touched, nothing computed is lost."""

import json
import os
import shutil
import signal
import time

from harness import TINY, Case, main


class Files(Case):
    def requests(self, *requests):
        return self.path("in.jsonl", "".join(json.dumps(r) + "\n" for r in requests))

    def batch(self, *options, out="out.jsonl"):
        return self.run_cli(
            "batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path(out), *options
        )

    def content(self, name="out.jsonl"):
        with open(self.path(name), "rb") as file:
            return file.read()

    def answers(self, name="out.jsonl"):
        return [json.loads(line) for line in self.content(name).splitlines()]


class NotOurs(Files):
    def test_a_file_without_a_newline_is_left_alone(self):
        self.requests({"id": 1, "prompt": "x", "max_tokens": 1})
        for text in [
            b'{"a": 1, "list": [1, 2, 3]}',
            b'{"id":1,"rows":[1,2,3]}',
            b'{"id":"x","name":"cut in the mid',
            b"no JSON at all",
            b"{",
        ][:-1]:
            with self.subTest(text=text):
                self.path("out.jsonl", text)
                done = self.batch()
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertIn(b"left as it is", done.stderr)
                self.assertEqual(self.content(), text)

    def test_lines_without_ids_are_no_answers(self):
        self.requests({"prompt": "x", "max_tokens": 1})
        for text in [b'{"a": 1}\n', b'{"id": null, "text": "t"}\n', b'{"prompt": "x"}\n']:
            with self.subTest(text=text):
                self.path("out.jsonl", text)
                self.assertEqual(self.batch().returncode, 3)
                self.assertEqual(self.content(), text)

    def test_the_end_of_a_killed_run_is_cut(self):
        self.requests({"id": "a", "prompt": "x", "max_tokens": 2, "seed": 1})
        self.assertEqual(self.batch().returncode, 0)
        whole = self.content()
        for size in range(len(whole)):
            self.path("out.jsonl", whole[:size])
            self.assertEqual(self.batch("-q").returncode, 0, whole[:size])
            self.assertEqual(self.content(), whole)

    def test_the_reason_is_the_right_one(self):
        self.requests({"id": 1, "prompt": "x"})
        if os.geteuid() != 0:
            os.mkdir(self.path("closed"), 0o555)
            done = self.batch(out="closed/out.jsonl")
            self.assertIn(b"Permission denied", done.stderr)
        done = self.batch(out="nowhere/out.jsonl")
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"No such file or directory", done.stderr)
        done = self.batch(out=".")
        self.assertIn(b"Is a directory", done.stderr)

    def test_outputs_of_other_commands_replace_a_file_only_when_they_are_whole(self):
        ids = self.path("ids.i32", b"\2\0\0\0\3\0\0\0")
        out = self.path("out.f32", "precious")
        self.fails(2, "the ids", "logits", "-m", TINY, "--ids", ids, "--out", ids)
        self.fails(5, "", "logits", "-m", TINY, "--ids", ids, "--out", out, "-c", "1")
        self.assertEqual(self.content("out.f32"), b"precious")
        self.ok("logits", "-m", TINY, "--ids", ids, "--out", out)
        self.assertEqual(len(self.content("out.f32")), 2 * 1763 * 4)
        self.assertEqual(sorted(os.listdir(self.folder)), ["ids.i32", "out.f32"])
        self.ok("logits", "-m", TINY, "--ids", ids, "--out", "/dev/null")


class Again(Files):
    def test_failed_lines_are_answered_again_in_place(self):
        good = [{"id": i, "prompt": f"number {i}", "max_tokens": 3, "seed": i} for i in range(4)]
        bad = [dict(r) for r in good]
        bad[1]["temperature"] = bad[3]["temperature"] = -1
        self.requests(*good)
        self.assertEqual(self.batch(out="whole.jsonl").returncode, 0)
        self.requests(*bad)
        self.assertEqual(self.batch().returncode, 1)
        self.requests(good[0], good[1], good[2], bad[3])
        done = self.batch()
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"line 2 has changed", done.stderr)
        self.assertIn(b"--retry-failed", done.stderr)
        self.assertEqual(self.batch("--retry-failed").returncode, 1)
        self.assertEqual([("error" in a) for a in self.answers()], [False, False, False, True])
        self.requests(*good, {"id": 4, "prompt": "more", "max_tokens": 1, "seed": 1})
        done = self.batch("--retry-failed")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.answers()[:4], self.answers("whole.jsonl"))
        self.assertEqual(len(self.answers()), 5)
        self.assertNotIn("out.jsonl.retry", os.listdir(self.folder))
        self.assertEqual(self.batch("--retry-failed").returncode, 0)

    def test_a_killed_retry_loses_nothing(self):
        count = 60
        good = [{"id": i, "prompt": f"n {i}", "max_tokens": 30, "seed": i} for i in range(count)]
        self.requests(*good)
        self.assertEqual(self.batch(out="whole.jsonl").returncode, 0)
        self.requests(*({**r, "top_p": 2} if r["id"] % 2 else r for r in good))
        self.assertEqual(self.batch().returncode, 1)
        before = self.content()
        self.requests(*good)
        retry = self.path("out.jsonl.retry")
        process = self.start(
            "batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path("out.jsonl"), "--retry-failed"
        )
        while process.poll() is None and not (os.path.exists(retry) and os.path.getsize(retry) > 900):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -9)
        self.assertEqual(self.content(), before)
        done = self.batch("--retry-failed")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.answers(), self.answers("whole.jsonl"))
        answered = int(done.stderr.split()[0])
        self.assertTrue(0 < answered < count // 2, done.stderr)

    def test_a_change_is_noticed(self):
        request = {"id": 1, "prompt": "x", "max_tokens": 2}
        self.requests(request)
        self.assertEqual(self.batch("--seed", "5").returncode, 0)
        before = self.content()
        for change in ({"prompt": "y"}, {"max_tokens": 3}, {"seed": 1}, {"stop": "z"}, {"top_p": 1}):
            with self.subTest(change=change):
                self.requests({**request, **change})
                done = self.batch()
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"use another file", done.stderr)
        self.requests(request)
        for options in (["--temp", "0.5"], ["--chat"], ["--seed", "6"]):
            with self.subTest(options=options):
                self.assertEqual(self.batch(*options).returncode, 2)
        for options in ([], ["--seed", "5"], ["-t", "2"], ["-c", "300"]):
            self.assertEqual(self.batch(*options).returncode, 0)
        self.assertEqual(self.content(), before)

    def test_pictures_without_a_vision_file_stop_at_the_start(self):
        self.requests(
            {"id": 1, "prompt": "x", "max_tokens": 1},
            {"id": 2, "prompt": "what?", "images": ["a.png"]},
        )
        model = self.path("alone/model.gguf")
        os.mkdir(os.path.dirname(model))
        shutil.copy(TINY, model)  # There a vision file lies beside it.
        done = self.run_cli(
            "batch", "-m", model, self.path("in.jsonl"), "-o", self.path("out.jsonl")
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"line 2 has pictures", done.stderr)
        self.assertEqual(self.content(), b"")


class Seeds(Files):
    def test_equal_lines_draw_differently_and_again_the_same(self):
        self.requests(*[{"prompt": "hello", "max_tokens": 12}] * 5)
        self.assertEqual(self.batch("--seed", "40").returncode, 0)
        self.assertEqual([a["usage"]["seed"] for a in self.answers()], [40, 41, 42, 43, 44])
        self.assertGreater(len({a["text"] for a in self.answers()}), 1)
        one = self.generate("-p", "hello", "-n", "12", "--seed", "42")
        self.assertEqual(one["text"], self.answers()[2]["text"])

    def test_a_resumed_batch_goes_on_with_its_seed(self):
        self.requests(*[{"prompt": "hello", "max_tokens": 12}] * 4)
        self.assertEqual(self.batch().returncode, 0)
        whole = self.content()
        lines = whole.splitlines(True)
        for count in range(1, 4):
            self.path("out.jsonl", b"".join(lines[:count]))
            self.assertEqual(self.batch().returncode, 0)
            self.assertEqual(self.content(), whole)
        self.assertEqual(self.batch(out="other.jsonl").returncode, 0)
        self.assertNotEqual(self.content("other.jsonl"), whole)

    def test_openai_has_them_too(self):
        self.requests({"custom_id": "a", "body": {"prompt": "hello", "max_tokens": 3}})
        self.assertEqual(self.batch("--seed", "7").returncode, 0)
        (answer,) = self.answers()
        body = answer["response"]["body"]
        self.assertEqual(body["usage"]["seed"], 7)
        self.assertRegex(body["system_fingerprint"], "^fp_[0-9a-f]{16}$")
        self.assertEqual(self.batch("--temp", "0.1").returncode, 2)


class Streams(Files):
    def test_standard_input_and_output(self):
        line = json.dumps({"id": 1, "prompt": "x", "max_tokens": 2, "seed": 1}) + "\r\n"
        done = self.run_cli("batch", "-m", TINY, "-", "-o", "-", input=b"\xef\xbb\xbf" + line.encode())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["id"], 1)
        self.assertIn(b"1 line in", done.stderr)

    def test_interrupts_say_how_to_go_on(self):
        seed = int(self.endless()[-1])
        self.requests({"id": 1, "prompt": "hello", "max_tokens": 2000, "top_k": 3, "seed": seed})
        process = self.start("batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path("out.jsonl"))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
        if process.returncode != 0:  # Not where it was faster than the signal.
            self.assertEqual(process.returncode, 130)
            self.assertEqual(error, b"lapidary: interrupted; run the same command to go on\n")

    def test_lines_without_end(self):
        long = self.path("in.jsonl")
        with open(long, "wb") as file:
            file.write(b'{"id": 1, "prompt": "' + b"x" * (65 << 20) + b'"}\n')
            file.write(json.dumps({"id": 2, "prompt": "x", "max_tokens": 1}).encode() + b"\n")
        self.assertEqual(self.batch().returncode, 1)
        first, second = self.answers()
        self.assertIn("longer than 64 MiB", first["error"]["message"])
        self.assertEqual(first["error"]["line"], 1)
        self.assertEqual(second["id"], 2)


if __name__ == "__main__":
    main()
