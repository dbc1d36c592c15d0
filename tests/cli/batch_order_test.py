"""Batches with many requests under way: the order of answers, several answers to one request, and going on by ids."""

import json
import os
import subprocess

from harness import TINY, Case, main, settled


class Order(Case):
    def requests(self, *requests, name="in.jsonl"):
        return self.path(name, "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests))

    def command(self, *options, out="out.jsonl", order="done"):
        return ["batch", "-m", TINY, self.path("in.jsonl"), "-o", self.path(out), "--order", order, *options]

    def batch(self, *options, code=0, **more):
        """What standard error says."""
        done = self.run_cli(*self.command(*options, **more))
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr.decode()

    def lines(self, name="out.jsonl"):
        with open(self.path(name), "rb") as file:
            return settled(file.read()).splitlines(True)

    def answers(self, name="out.jsonl"):
        return {answer["id"]: answer for answer in map(json.loads, self.lines(name))}

    def mixed(self, count=30):
        """Requests of all lengths, some with seeds of their own."""
        return [
            {"id": f"r{i}", "prompt": f"number {i % 7}", "max_tokens": 1 + i * i % 23, **({"seed": i} if i % 5 == 0 else {})}
            for i in range(count)
        ]


class Orders(Order):
    def test_answers_do_not_depend_on_the_order_or_on_what_is_beside_them(self):
        requests = self.mixed()
        self.requests(*requests)
        self.batch("--seed", "7", order="input", out="wanted.jsonl")
        wanted = [json.loads(line) for line in self.lines("wanted.jsonl")]
        self.assertEqual([answer["id"] for answer in wanted], [request["id"] for request in requests])
        for order in ("input", "done"):
            for parallel in (1, 2, 16, 1024):
                with self.subTest(order=order, parallel=parallel):
                    self.batch("--seed", "7", "--parallel", parallel, order=order, out=f"{order}{parallel}")
                    got = [json.loads(line) for line in self.lines(f"{order}{parallel}")]
                    if order == "done":
                        got.sort(key=lambda answer: int(answer["id"][1:]))
                        self.assertEqual({answer["usage"].pop("batch_seed") for answer in got}, {7})
                    self.assertEqual(got, wanted)

    def test_an_answer_is_the_one_of_generate(self):
        self.requests(*self.mixed(9))
        self.batch("--seed", "40", "--parallel", "8")
        for place, request in enumerate(self.mixed(9)):
            seed = request.get("seed", 40 + place)
            one = self.generate("-p", request["prompt"], "-n", request["max_tokens"], "--seed", seed)
            got = self.answers()[request["id"]]
            self.assertEqual((got["text"], got["usage"]["seed"]), (one["text"], seed))

    def test_bad_options_are_one_line(self):
        self.requests({"id": 1, "prompt": "x"})
        for option, value, said in [
            ("--parallel", "1025", "1024"), ("--parallel", "-1", "1024"), ("--parallel", "nan", "--parallel"),
            ("--parallel", "2.5", "--parallel"), ("--order", "random", "expected one of input, done"),
            ("--temp", "nan", "a number from 0"), ("--draft", TINY, "a draft model"),
        ]:
            self.fails(2, said, *self.command(order="input"), option, value)


class Several(Order):
    REQUEST = {"id": "a", "prompt": "hello", "max_tokens": 9, "seed": 3, "n": 3}

    def wanted(self):
        return [self.generate("-p", "hello", "-n", "9", "--seed", 3 + i) for i in range(3)]

    def test_our_format(self):
        self.requests(self.REQUEST, {**self.REQUEST, "id": "b", "n": 1}, {**self.REQUEST, "id": "c", "n": None})
        self.batch()
        wanted = [{key: one[key] for key in ("text", "finish_reason")} for one in self.wanted()]
        got, one, none = (self.answers()[key] for key in "abc")
        self.assertEqual(got["answers"], wanted)
        self.assertEqual({key: got[key] for key in ("text", "finish_reason")}, wanted[0])
        usage = [answer["usage"] for answer in self.wanted()]
        self.assertEqual(got["usage"]["prompt_tokens"], usage[0]["prompt_tokens"])
        self.assertEqual(got["usage"]["completion_tokens"], sum(u["completion_tokens"] for u in usage))
        self.assertEqual(one["usage"], none["usage"])
        self.assertEqual(one["digest"], none["digest"])
        self.assertNotEqual(one["digest"], got["digest"])
        self.assertNotIn("answers", one)

    def test_openai(self):
        body = {key: value for key, value in self.REQUEST.items() if key != "id"}
        messages = [{"role": "user", "content": "hello"}]
        self.requests(
            {"custom_id": "t", "body": body},
            {"custom_id": "c", "body": {**body, "prompt": None, "messages": messages, "n": 128, "max_tokens": 1}},
        )
        self.batch(order="input")
        text, chat = (json.loads(line)["response"]["body"] for line in self.lines())
        self.assertEqual([choice["index"] for choice in text["choices"]], [0, 1, 2])
        self.assertEqual([choice["text"] for choice in text["choices"]], [one["text"] for one in self.wanted()])
        self.assertEqual([choice["index"] for choice in chat["choices"]], list(range(128)))
        self.assertTrue(all(choice["message"]["role"] == "assistant" for choice in chat["choices"]))
        usage = chat["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])

    def test_out_of_range(self):
        bad = [0, 129, -1, 1.5, "2", [2], True, 1e300]
        lines = [{"id": str(value), "prompt": "x", "n": value} for value in bad]
        self.requests(*lines, '{"id": "nan", "prompt": "x", "n": NaN}')
        self.batch(code=1, order="input")
        *got, nan = [json.loads(line) for line in self.lines()]
        for answer in got:
            self.assertEqual(answer["error"]["code"], "invalid_request")
            self.assertIn("n: expected a whole number from 1 to 128, found", answer["error"]["message"])
        self.assertEqual(nan["error"]["code"], "invalid_json")


class Ids(Order):
    def test_every_request_needs_one_of_its_own(self):
        good = self.mixed(3)
        for bad, said in [
            ({**good[1], "prompt": "y"}, 'line 4 has the id of line 2, "r1": --order done needs an id'),
            ({"prompt": "x"}, "line 4 has no id: --order done needs an id of its own"),
            ("{broken", "line 4 has no id (the line is not valid JSON"),
            ({"id": [1], "prompt": "x"}, "line 4 has no id (id: expected"),
        ]:
            with self.subTest(bad=bad):
                self.requests(*good, bad)
                self.fails(2, ["in.jsonl " + said], *self.command("-q", out=str(hash(said))))
        self.requests({"id": 1, "prompt": "x"}, {"id": "1", "prompt": "x"})
        self.batch("-n", "1")

    def test_a_repaired_batch_goes_on(self):
        good = self.mixed(40)
        self.requests(*good[:20], good[3], *good[20:])
        self.batch("--seed", "1", code=2)
        self.requests(*good)
        self.batch()
        self.batch("--seed", "1", out="whole.jsonl")
        self.assertEqual(len(self.lines()), 40)
        if {a["usage"]["batch_seed"] for a in self.answers().values()} == {1}:
            self.assertEqual(sorted(self.lines()), sorted(self.lines("whole.jsonl")))

    def test_going_on_needs_no_order(self):
        good = self.mixed(12)
        self.requests(*good)
        self.batch("--seed", "9", out="whole.jsonl")
        whole = self.lines("whole.jsonl")
        for kept in (whole[::2], whole[5:], whole[::-1], [*whole[3:5], whole[7][:30]], [whole[1], whole[0][:-1]]):
            self.path("out.jsonl", b"".join(kept))
            self.batch()
            self.assertEqual(sorted(self.lines()), sorted(whole))

    def test_a_pipe_goes_on_too(self):
        good = self.mixed(12)
        text = "".join(json.dumps(request) + "\n" for request in good)
        self.requests(*good)
        self.batch("--seed", "9", out="whole.jsonl")
        self.path("out.jsonl", b"".join(self.lines("whole.jsonl")[4:9]))
        command = ["batch", "-q", "-m", TINY, "-", "-o", self.path("out.jsonl"), "--order", "done"]
        self.ok(*command, input=text)
        self.assertEqual(sorted(self.lines()), sorted(self.lines("whole.jsonl")))
        line = json.dumps(good[0]) + "\n"
        self.fails(2, "standard input line 2 has the id of line 1", *command, input=line * 2)
        self.fails(2, "out.jsonl answers 11 ids that the requests have not", *command, input=line)

    def test_answers_of_others_are_left_alone(self):
        self.requests(*self.mixed(4))
        self.batch("--seed", "3")
        before = self.lines()
        for change, said in [
            ([{**request, "prompt": "y"} for request in self.mixed(4)], "line 1 is not what"),
            ([{**request, "id": "x" + request["id"]} for request in self.mixed(4)], "4 ids that the requests have not"),
            (self.mixed(3), "1 id that the requests have not"),
        ]:
            self.requests(*change)
            self.fails(2, said, *self.command())
            self.assertEqual(self.lines(), before)
        self.requests(*self.mixed(4))
        self.fails(2, "--seed 3", *self.command("--seed", "4"))
        self.fails(2, "--order done: go on with that", *self.command(order="input"))
        self.batch(order="input", out="input.jsonl")
        self.fails(2, "--order input: go on with that", *self.command(out="input.jsonl"))
        self.path("out.jsonl", b"".join(before[:2] + before[:1]))
        self.fails(2, "answers an id twice", *self.command())

    def test_failed_lines_are_answered_again(self):
        good = self.mixed(10)
        bad = [{**request, "top_p": 2} if i % 3 == 0 else request for i, request in enumerate(good)]
        self.requests(*good)
        self.batch("--seed", "5", out="whole.jsonl")
        self.requests(*bad)
        self.batch("--seed", "5", code=1)
        self.batch(code=1)  # Nothing is left to do.
        self.requests(*good)
        self.assertIn("--retry-failed", self.batch(code=2))
        os.chmod(self.path("out.jsonl"), 0o600)
        self.batch("--retry-failed")
        self.assertEqual(sorted(self.lines()), sorted(self.lines("whole.jsonl")))
        self.assertEqual(os.stat(self.path("out.jsonl")).st_mode & 0o777, 0o600)
        self.batch("--retry-failed")


class SlowPipe(Order):
    def start_pipe(self, *options):
        process = self.start("batch", "-q", "-m", TINY, "-", "-o", "-", *options, stdin=subprocess.PIPE)
        self.addCleanup(process.stdin.close)
        return process

    def test_each_answer_comes_while_the_pipe_stays_open(self):
        for order in ("input", "done"):
            process = self.start_pipe("--order", order, "--parallel", "16")
            for i in range(5):
                process.stdin.write(json.dumps({"id": i, "prompt": "x", "max_tokens": 3}).encode() + b"\n")
                process.stdin.flush()
                self.assertEqual(json.loads(process.stdout.readline())["id"], i)
            process.stdin.close()
            self.assertEqual(process.wait(60), 0)

    def test_half_a_line_stops_nothing(self):
        process = self.start_pipe("--parallel", "4")
        line = json.dumps({"id": 1, "prompt": "x", "max_tokens": 3}).encode() + b"\n"
        process.stdin.write(line + line[:10])
        process.stdin.flush()
        self.assertEqual(json.loads(process.stdout.readline())["id"], 1)
        process.stdin.write(line[10:] + line[:-1])  # The last one lacks its newline.
        process.stdin.close()
        self.assertEqual([json.loads(answer)["id"] for answer in process.stdout], [1, 1])
        self.assertEqual(process.wait(60), 0)


if __name__ == "__main__":
    main()
