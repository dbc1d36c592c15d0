"""What a batch does to files: nothing that is not its own is touched, nothing computed is lost."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import pictures
from harness import LAPIDARY, TINY, Case, main, settled


class Files(Case):
    def requests(self, *requests):
        return self.path("in.jsonl", "".join(json.dumps(r) + "\n" for r in requests))

    def batch(self, *options, out="out.jsonl"):
        return self.run_cli(
            "batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path(out), *options
        )

    def content(self, name="out.jsonl"):
        with open(self.path(name), "rb") as file:
            return settled(file.read())

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
        ]:
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


    def test_a_last_line_that_lacks_only_its_newline_is_kept(self):
        self.requests({"id": 1, "prompt": "x", "max_tokens": 2}, {"id": 2, "prompt": "x"})
        answer = {"id": 1, "text": "kept", "finish_reason": "stop", "usage": {}}
        self.path("out.jsonl", json.dumps(answer))
        self.assertEqual(self.batch("-n", "1").returncode, 0)
        self.assertEqual([a["id"] for a in self.answers()], [1, 2])
        self.assertEqual(self.answers()[0], answer)

    def test_a_line_without_end_is_no_answer(self):
        self.requests({"id": 1, "prompt": "x"})
        with open(self.path("out.jsonl"), "wb") as file:
            file.write(b'{"id":1,"text":"')
            file.truncate(70 << 20)
        done = self.batch()
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"more than 64 MiB", done.stderr)
        self.assertEqual(os.path.getsize(self.path("out.jsonl")), 70 << 20)

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "root reads every file")
    def test_a_file_that_cannot_be_read_is_not_emptied(self):
        self.requests({"id": 1, "prompt": "x", "max_tokens": 1})
        out = self.path("out.jsonl", b"secret\n")
        os.chmod(out, 0o222)
        as_user = []
        if os.geteuid() == 0:  # Without what lets root read it all the same.
            as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        done = subprocess.run(
            [*as_user, LAPIDARY, "batch", "-m", TINY, self.path("in.jsonl"), "-o", out],
            capture_output=True,
            env=self.environment,
        )
        os.chmod(out, 0o666)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn(b"out.jsonl: Permission denied", done.stderr)
        self.assertEqual(self.content(), b"secret\n")

    def test_no_input_is_written_over(self):
        ids = self.path("ids.i32", b"\2\0\0\0\3\0\0\0")
        model = shutil.copy(TINY, self.path("model.gguf"))
        vision = shutil.copy(pictures.MMPROJ, self.path("mmproj-model.gguf"))
        picture = shutil.copy(pictures.SMALL, self.path("a.png"))
        logits = ["logits", "-m", model, "--ids", ids, "--out"]
        encode = ["encode-image", "-m", model, "--image", picture]
        self.fails(2, "the model", *logits, model)
        self.fails(2, "the vision file", *encode, "--out", vision)
        self.fails(2, "the picture", *logits, picture, "--image", picture)
        # Of two pictures the first is saved under the name of the second.
        second = shutil.copy(picture, self.path("00.a.00.png"))
        before = sorted(os.listdir(self.folder))
        self.fails(2, "the picture", *encode, "--image", second, "--save-inputs", self.folder)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_a_replaced_file_keeps_its_mode(self):
        ids = self.path("ids.i32", b"\2\0\0\0")
        out = self.path("out.f32", "old")
        os.chmod(out, 0o600)
        self.ok("logits", "-m", TINY, "--ids", ids, "--out", out)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o600)


class Again(Files):
    def test_a_repaired_line_of_broken_json_is_answered_again(self):
        good = {"id": "a", "prompt": "x", "max_tokens": 2}
        self.path("in.jsonl", "{broken\n" + json.dumps({**good, "id": "b"}) + "\n")
        self.assertEqual(self.batch().returncode, 1)
        second = self.answers()[1]
        self.requests(good, {**good, "id": "b"})
        done = self.batch()
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--retry-failed", done.stderr)
        done = self.batch("--retry-failed")
        self.assertEqual(done.returncode, 0, done.stderr)
        first, again = self.answers()
        self.assertEqual(first["id"], "a")
        self.assertEqual(again, second)
        # Its seed follows from that of its neighbour.
        self.assertEqual(first["usage"]["seed"] + 1, second["usage"]["seed"])

    def test_a_retry_that_was_stopped_keeps_failures_and_seed(self):
        request = {"prompt": "x", "max_tokens": 2}
        bad = {**request, "top_p": 2}
        self.requests(*[bad] * 4)
        self.assertEqual(self.batch().returncode, 1)
        self.requests(request, bad, request, request)
        self.assertEqual(self.batch("--retry-failed", "--seed", "70").returncode, 1)
        whole = self.content()
        lines = whole.splitlines(True)
        errors = self.batch_of_errors([bad] * 4)
        # As a kill leaves it: the answers as they were, and two lines beside them.
        for stop in (1, 2, 3, 4):
            with self.subTest(stop=stop):
                self.requests(request, bad, request, request)
                self.path("out.jsonl", errors)
                self.path("out.jsonl.retry", b"".join(lines[:stop]))
                self.assertEqual(self.batch("--retry-failed").returncode, 1)
                self.assertEqual(self.content(), whole)
                self.assertNotIn("out.jsonl.retry", os.listdir(self.folder))

    def batch_of_errors(self, requests):
        self.requests(*requests)
        self.assertEqual(self.batch(out="errors.jsonl").returncode, 1)
        return self.content("errors.jsonl")

    def test_what_a_retry_left_is_not_thrown_away(self):
        good = {"prompt": "x", "max_tokens": 2, "seed": 1}
        errors = self.batch_of_errors([{**good, "top_p": 2}] * 2)
        self.requests(good, good)
        self.path("out.jsonl", errors)
        self.assertEqual(self.batch("--retry-failed").returncode, 0)
        first = self.content().splitlines(True)[0]
        self.path("out.jsonl", errors)
        self.path("out.jsonl.retry", first)
        done = self.batch("--retry-failed", "--temp", "0.5")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(b"remove", done.stderr)
        self.assertEqual((self.content(), self.content("out.jsonl.retry")), (errors, first))
        self.path("out.jsonl.retry", "a letter to my aunt\n")
        self.assertEqual(self.batch("--retry-failed").returncode, 3)
        self.assertEqual(self.content("out.jsonl.retry"), b"a letter to my aunt\n")

    def test_a_retry_follows_links_and_keeps_the_mode(self):
        good = {"prompt": "x", "max_tokens": 2, "seed": 1}
        errors = self.batch_of_errors([{**good, "top_p": 2}])
        self.requests(good)
        os.chmod(self.path("errors.jsonl"), 0o600)
        os.symlink("errors.jsonl", self.path("out.jsonl"))
        self.assertEqual(self.batch("--retry-failed").returncode, 0)
        self.assertTrue(os.path.islink(self.path("out.jsonl")))
        self.assertEqual(os.stat(self.path("out.jsonl")).st_mode & 0o777, 0o600)
        self.assertNotEqual(self.content("errors.jsonl"), errors)

    def test_another_model_is_noticed_by_its_weights(self):
        self.requests({"prompt": "x", "max_tokens": 2})
        with open(TINY, "rb") as file:
            weights = bytearray(file.read())
        self.path("model.gguf", bytes(weights))
        model = ["-m", self.path("model.gguf")]
        self.assertEqual(self.batch(*model).returncode, 0)
        os.rename(self.path("model.gguf"), self.path("moved.gguf"))
        model = ["-m", self.path("moved.gguf")]
        self.assertEqual(self.batch(*model).returncode, 0)  # Where it lies does not matter.
        at = len(weights) // 64 * 32  # A fine-tune: the same header and size.
        weights[at] ^= 1
        self.path("moved.gguf", bytes(weights))
        done = self.batch(*model)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"the model has changed", done.stderr)

    def test_what_does_not_change_an_answer_is_no_change(self):
        os.mkdir(self.path("lone"))
        model = ["-m", shutil.copy(TINY, self.path("lone/model.gguf"))]
        chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        self.requests({"prompt": "x", "max_tokens": 2})
        self.assertEqual(self.batch(*model).returncode, 0)
        shutil.copy(pictures.MMPROJ, self.path("lone/mmproj-model.gguf"))
        for options in (["--pan-and-scan"], ["-c", "100"], ["--mmproj", pictures.MMPROJ]):
            self.assertEqual(self.batch(*model, *options).returncode, 0, options)
        self.requests(chat)
        self.assertEqual(self.batch(*model, out="chat.jsonl").returncode, 0)
        self.assertEqual(self.batch(*model, "--chat", out="chat.jsonl").returncode, 0)

    def test_pictures_are_known_from_anywhere(self):
        shutil.copy(pictures.SMALL, self.path("a.png"))
        self.requests({"prompt": "x", "images": ["a.png"], "max_tokens": 1})
        self.assertEqual(self.batch().returncode, 0)
        names = ["in.jsonl", "./in.jsonl", os.path.join("..", os.path.basename(self.folder), "in.jsonl")]
        for name in names:
            done = subprocess.run(
                [LAPIDARY, "batch", "-m", os.path.abspath(TINY), name, "-o", "out.jsonl"],
                cwd=self.folder,
                capture_output=True,
                env=self.environment,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.batch("--pan-and-scan").returncode, 2)

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
        good = [{"id": i, "prompt": f"n {i}", "max_tokens": 120, "seed": i} for i in range(count)]
        self.requests(*good)
        self.assertEqual(self.batch(out="whole.jsonl").returncode, 0)
        self.requests(*({**r, "top_p": 2} if r["id"] % 2 else r for r in good))
        self.assertEqual(self.batch().returncode, 1)
        before = self.content()
        self.requests(*good)
        retry = self.path("out.jsonl.retry")
        process = self.start(
            *("batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path("out.jsonl")),
            *("--retry-failed", "--parallel", "2"),
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

    def begin(self, *requests, out="out.jsonl"):
        """A batch that waits for more requests, once it has answered these."""
        process = self.start("batch", "-m", TINY, "-", "-o", self.path(out), stdin=subprocess.PIPE)
        self.addCleanup(process.stdin.close)
        self.send(process, *requests)
        while not os.path.exists(self.path(out)) or self.content(out).count(b"\n") < len(requests):
            self.assertIsNone(process.poll())
            time.sleep(0.005)
        return process

    def send(self, process, *requests):
        for request in requests:
            process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        error = process.stderr.read().decode()
        self.assertEqual(code, 130, error)
        return error

    def test_interrupts_say_how_to_go_on(self):
        go_on = "lapidary: interrupted; run the same command to go on\n"
        short = {"id": 1, "prompt": "x", "max_tokens": 1}
        seed = int(self.endless()[-1])
        drawing = {"id": 2, "prompt": "hello", "top_k": 3, "seed": seed}
        reading = {"id": 2, "prompt": "word " * 6000, "max_tokens": 1}
        for number, more in enumerate(([], [drawing], [reading])):
            with self.subTest(more=more):
                process = self.begin(short, out=f"{number}.jsonl")
                self.send(process, *more)
                time.sleep(0.02)
                self.assertEqual(self.interrupt(process), go_on)
                self.assertEqual(len(self.answers(f"{number}.jsonl")), 1)

    def test_interrupts_while_the_model_is_loaded(self):
        seed = int(self.endless()[-1])
        self.requests({"id": 1, "prompt": "hello", "top_k": 3, "seed": seed})
        process = self.start(
            "batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path("out.jsonl")
        )
        while not os.path.exists(self.path("out.jsonl")):
            self.assertIsNone(process.poll())
            time.sleep(0.001)
        self.assertIn("run the same command to go on", self.interrupt(process))

    def test_a_pipe_without_a_reader_ends_it(self):
        os.mkfifo(self.path("pipe"))
        self.requests(*[{"prompt": "hello", "max_tokens": 40}] * 600)
        process = self.start("batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path("pipe"))
        with open(self.path("pipe"), "rb") as pipe:
            self.assertEqual(json.loads(pipe.readline())["id"], None)
        self.assertEqual(process.wait(60), 1)

    def test_answers_are_not_read_as_requests(self):
        text = json.dumps({"prompt": "x", "max_tokens": 1}) + "\n"
        requests = self.path("in.jsonl", text)
        with open(requests, "ab") as out:
            done = subprocess.run(
                [LAPIDARY, "batch", "-m", TINY, requests, "-o", "-"],
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=60,
                env=self.environment,
            )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(self.content("in.jsonl").decode(), text)

    def test_lines_without_end(self):
        long = self.path("in.jsonl")
        with open(long, "wb") as file:
            file.write(b'{"id": 1, "prompt": "' + b"x" * (65 << 20) + b'"}\n')
            file.write(json.dumps({"id": 2, "prompt": "x", "max_tokens": 1}).encode() + b"\n")
        self.assertEqual(self.batch().returncode, 1)
        first, second = self.answers()
        self.assertIn("longer than 64.0 MiB", first["error"]["message"])
        self.assertEqual(first["error"]["line"], 1)
        self.assertEqual(second["id"], 2)


if __name__ == "__main__":
    main()
