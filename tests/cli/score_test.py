"""Choices, log-probabilities and echoes: in generate, in our own lines of a batch, and in OpenAI's."""

import json
import math
import os
import unittest

from harness import TINY, Case, main, settled

REAL = os.environ.get("LAPIDARY_TEST_MODEL")


class Choices(Case):
    def scored(self, *arguments, lines, **more):
        return self.generate("--no-chat", "--choices", self.path("choices.txt", lines), *arguments, **more)

    def test_json(self):
        got = self.scored("some text", lines='one two\n three\r\n"a\\nb"\none two\n')
        self.assertEqual(list(got), ["choices", "best", "prompt_ids", "timings"])
        choices = got["choices"]
        self.assertEqual([c["text"] for c in choices], ["one two", " three", "a\nb", "one two"])
        self.assertEqual(choices[0], choices[3])
        for choice in choices:
            ids = json.loads(self.ok("tokenize", "-m", TINY, choice["text"]))
            self.assertEqual(choice["tokens"], len(ids))
            self.assertEqual(len(choice["token_logprobs"]), len(ids))
            self.assertEqual(choice["bytes"], len(choice["text"].encode()))
            self.assertAlmostEqual(choice["logprob"], sum(choice["token_logprobs"]))
            self.assertAlmostEqual(choice["per_token"], choice["logprob"] / len(ids))
            self.assertAlmostEqual(choice["per_byte"], choice["logprob"] / choice["bytes"])
            self.assertLess(choice["logprob"], 0)
        best = max(range(4), key=lambda i: choices[i]["logprob"])
        self.assertEqual(got["best"], best)

    def test_a_leading_blank_is_part_of_a_choice(self):
        one, two = self.scored("some text", lines="word\n word\n")["choices"]
        self.assertNotEqual(one["logprob"], two["logprob"])

    def test_greedy_is_what_temperature_0_draws(self):
        for text in ["some text", "hello", "and then"]:
            drawn = self.generate("--no-chat", text, "-n", "6", "--temp", "0")
            again = json.loads(self.ok("tokenize", "-m", TINY, drawn["text"]))
            if again == drawn["ids"]:
                lines = json.dumps(drawn["text"]) + "\n" + json.dumps(drawn["text"] + "zq") + "\n"
                one, two = self.scored(text, lines=lines)["choices"]
                self.assertTrue(one["greedy"])
                self.assertFalse(two["greedy"])
                return
        self.fail("no text whose tokens are those that were drawn")

    def test_table_is_best_first(self):
        lines = self.path("choices.txt", "one\n two\nthree and more\n")
        arguments = ["generate", "-q", "-m", TINY, "--no-chat", "x", "--choices", lines]
        table = self.ok(*arguments).splitlines()
        choices = json.loads(self.ok(*arguments, "--json"))["choices"]
        self.assertEqual(table[0].split(), "logprob per token per byte tokens greedy choice".split())
        order = sorted(choices, key=lambda choice: -choice["logprob"])
        self.assertEqual([json.loads(row[row.index('"'):]) for row in table[1:]], [c["text"] for c in order])
        for row, choice in zip(table[1:], order):
            self.assertEqual(row.split()[0], "%.4f" % choice["logprob"])

    def test_standard_input_and_chunks_change_nothing(self):
        lines = "".join(f"choice number {i} of some length\n" for i in range(20))
        wanted = self.scored("some text", lines=lines)["choices"]
        got = self.generate("--no-chat", "some text", "--choices", "-", "--chunk", "3", "-t", "2", input=lines)
        self.assertEqual(got["choices"], wanted)

    def test_what_is_refused(self):
        def refused(code, words, lines, *more):
            path = self.path("choices.txt", lines)
            self.fails(code, words, "generate", "-q", "-m", TINY, "--no-chat", "x", "--choices", path, *more)

        refused(2, "expected a continuation a line", "")
        refused(2, ["line 2", "found an empty line"], "a\n\nb\n")
        refused(2, ["line 1", "JSON string"], '"a\n')
        refused(2, ["line 1", "empty string"], '""\n')
        refused(2, "UTF-8", b"\xff\n")
        refused(2, "at most 4096", "a\n" * 4097)
        refused(5, ["choice 2 has", "the context holds 32"], "a\n" + "word " * 60 + "\n", "-c", "32")
        refused(2, "--logprobs", "a\n", "--json", "--logprobs", "2")
        self.fails(3, "cannot open", "generate", "-q", "-m", TINY, "x", "--choices", self.path("none"))
        self.fails(
            2, "both the prompt and the choices", "generate", "-q", "-m", TINY, "--choices", "-", input="a\n"
        )


class Logprobs(Case):
    def test_generate(self):
        plain = self.generate("some text", "-n", "6", "--seed", "4")
        got = self.generate("some text", "-n", "6", "--seed", "4", "--logprobs", "3")
        self.assertEqual(got["ids"], plain["ids"])
        self.assertNotIn("logprobs", plain)
        shown = got["logprobs"]
        self.assertEqual([t["id"] for t in shown], got["ids"][: len(shown)])
        self.assertEqual(bytes(b for t in shown for b in t["bytes"]).decode(errors="replace"), got["text"])
        for token in shown:
            top = [other["logprob"] for other in token["top_logprobs"]]
            self.assertEqual(len(top), 3)
            self.assertEqual(top, sorted(top, reverse=True))
            self.assertLessEqual(token["logprob"], top[0])
            self.assertLess(sum(map(math.exp, top)), 1)

    def test_a_stop_string_ends_both(self):
        whole = self.generate("some text", "-n", "8", "--temp", "0", "--logprobs", "0")
        stop = whole["text"][len(whole["text"]) // 2:][:3]
        got = self.generate("some text", "-n", "8", "--temp", "0", "--logprobs", "0", "--stop", stop)
        text = bytes(b for t in got["logprobs"] for b in t["bytes"]).decode(errors="replace")
        self.assertTrue(text.startswith(got["text"]))
        self.assertLess(len(got["logprobs"]), len(whole["logprobs"]))

    def test_what_is_refused(self):
        self.fails(2, "needs --json", "generate", "-q", "-m", TINY, "x", "--logprobs", "2")
        self.fails(2, "20", "generate", "-q", "-m", TINY, "x", "--json", "--logprobs", "21")


class Batch(Case):
    def answers(self, *requests, code=0, options=()):
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = self.run_cli(
            "batch", "-q", "-m", TINY, self.path("in.jsonl", lines), "-o", "-", "--seed", "3", "-n", "4", *options
        )
        self.assertEqual(done.returncode, code, done.stderr)
        return [json.loads(line) for line in settled(done.stdout).splitlines()]

    def test_choices_are_those_of_generate(self):
        texts = ["one two", " three", "a\nb"]
        path = self.path("choices.txt", "".join(json.dumps(text) + "\n" for text in texts))
        wanted = self.generate("--no-chat", "some text", "--choices", path)
        requests = [{"id": i, "prompt": "some text", "choices": texts} for i in range(3)]
        requests.insert(1, {"id": "x", "prompt": "some text"})
        plain = self.answers(requests[1])[0]["text"]
        for parallel in (1, 4):
            answers = self.answers(*requests, options=["--parallel", parallel])
            for answer in answers[:1] + answers[2:]:
                self.assertEqual(list(answer), ["id", "choices", "best", "usage", "digest"])
                self.assertEqual(answer["choices"], wanted["choices"])
                self.assertEqual(answer["best"], wanted["best"])
                self.assertEqual(answer["usage"]["prompt_tokens"], len(wanted["prompt_ids"]))
                self.assertEqual(
                    answer["usage"]["completion_tokens"], sum(c["tokens"] for c in wanted["choices"])
                )
            self.assertIn("text", answers[1])
        self.assertTrue(plain)

    def test_choices_behind_messages(self):
        request = {"messages": [{"role": "user", "content": "some text"}], "choices": ["yes", "no"]}
        answer = self.answers(request, options=["--chat"])[0]
        path = self.path("choices.txt", "yes\nno\n")
        wanted = self.generate("--chat", "some text", "--choices", path)
        self.assertEqual(answer["choices"], wanted["choices"])

    def test_a_batch_with_choices_goes_on(self):
        requests = [{"id": i, "prompt": f"text {i}", "choices": [" a", " b"]} for i in range(4)]
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        path, out = self.path("in.jsonl", lines), self.path("out.jsonl")
        command = ["batch", "-q", "-m", TINY, path, "-o", out, "--seed", "1"]
        for order in ("input", "done"):
            self.ok(*command, "--order", order)
            with open(out, "rb") as file:
                whole = file.read()
            # A line and half of the next, as a kill leaves them.
            end = whole.index(b"\n") + 40
            with open(out, "wb") as file:
                file.write(whole[:end])
            self.ok(*command, "--order", order)
            with open(out, "rb") as file:
                self.assertEqual(sorted(settled(file.read()).splitlines()), sorted(settled(whole).splitlines()))
            requests[1]["choices"] = [" c"]
            with open(path, "w") as file:
                file.writelines(json.dumps(request) + "\n" for request in requests)
            self.fails(2, "has changed", *command, "--order", order)
            requests[1]["choices"] = [" a", " b"]
            with open(path, "w") as file:
                file.write(lines)
            os.remove(out)

    def test_completions_echo(self):
        body = {"prompt": "some text of mine", "max_tokens": 3, "echo": True, "logprobs": 2, "temperature": 0}
        choice = self.answers({"custom_id": "a", "body": body})[0]["response"]["body"]["choices"][0]
        logprobs = choice["logprobs"]
        self.assertEqual(list(logprobs), ["tokens", "token_logprobs", "top_logprobs", "text_offset"])
        count = len(logprobs["tokens"])
        for values in logprobs.values():
            self.assertEqual(len(values), count)
        self.assertTrue(choice["text"].startswith("some text of mine"))
        self.assertEqual("".join(logprobs["tokens"]), "<bos>" + choice["text"])
        self.assertEqual(logprobs["token_logprobs"][0], None)
        self.assertEqual(logprobs["top_logprobs"][0], None)
        for i in range(1, count):
            top = logprobs["top_logprobs"][i]
            self.assertIn(len(top), (2, 3))
            self.assertEqual(top[logprobs["tokens"][i]], logprobs["token_logprobs"][i])
            self.assertTrue(choice["text"][logprobs["text_offset"][i]:].startswith(logprobs["tokens"][i]))
        # What was drawn greedily is the most probable.
        self.assertEqual(max(logprobs["top_logprobs"][-1].values()), logprobs["token_logprobs"][-1])

    def test_echo_alone_scores_a_prompt(self):
        prompt, rest = "some text", " and more"
        body = {"prompt": prompt + rest, "max_tokens": 0, "echo": True, "logprobs": 0}
        scored = {"prompt": prompt, "choices": [rest]}
        echoed, choices = self.answers({"custom_id": "a", "body": body}, scored)
        whole = echoed["response"]["body"]["choices"][0]
        self.assertEqual(whole["text"], prompt + rest)
        self.assertEqual(whole["finish_reason"], "length")
        ids = [json.loads(self.ok("tokenize", "-m", TINY, text)) for text in (prompt, rest, prompt + rest)]
        self.assertEqual(ids[0] + ids[1], ids[2], "a prompt that is cut between tokens")
        self.assertEqual(
            whole["logprobs"]["token_logprobs"][1 + len(ids[0]):], choices["choices"][0]["token_logprobs"]
        )

    def test_echo_without_logprobs_and_logprobs_without_echo(self):
        body = {"prompt": "some text", "max_tokens": 3}
        plain, echo, logprobs = (
            answer["response"]["body"]["choices"][0]
            for answer in self.answers(
                {"custom_id": "a", "body": {**body, "seed": 1}},
                {"custom_id": "b", "body": {**body, "seed": 1, "echo": True}},
                {"custom_id": "c", "body": {**body, "seed": 1, "logprobs": 1}},
            )
        )
        self.assertEqual(echo["text"], "some text" + plain["text"])
        self.assertIsNone(echo["logprobs"])
        self.assertEqual(logprobs["text"], plain["text"])
        self.assertEqual("".join(logprobs["logprobs"]["tokens"]), plain["text"])
        self.assertEqual(logprobs["logprobs"]["text_offset"][0], 0)

    def test_chats(self):
        body = {
            "messages": [{"role": "user", "content": "some text"}], "max_tokens": 4, "n": 2,
            "logprobs": True, "top_logprobs": 2, "seed": 5,
        }
        answer = self.answers({"custom_id": "a", "body": body})[0]["response"]["body"]
        self.assertEqual(len(answer["choices"]), 2)
        for choice in answer["choices"]:
            content = choice["logprobs"]["content"]
            self.assertEqual(
                bytes(b for token in content for b in token["bytes"]).decode(errors="replace"),
                choice["message"]["content"],
            )
            for token in content:
                self.assertEqual(list(token), ["token", "logprob", "bytes", "top_logprobs"])
                self.assertEqual(len(token["top_logprobs"]), 2)

    def test_our_own_lines_have_logprobs(self):
        request = {"prompt": "some text", "n": 2, "logprobs": 1, "echo": True, "max_tokens": 2}
        answer = self.answers(request)[0]
        self.assertEqual(len(answer["answers"]), 2)
        for each in answer["answers"]:
            self.assertEqual("".join(each["logprobs"]["tokens"]), "<bos>" + each["text"])
        self.assertEqual(answer["logprobs"], answer["answers"][0]["logprobs"])

    def test_what_is_refused(self):
        def refused(request, *words, code="invalid_request"):
            error = self.answers(request, code=1)[0]["error"]
            self.assertEqual(error["code"], code, error)
            for word in words:
                self.assertIn(word, error["message"])
            self.assertNotIn("\n", error["message"])

        def chat(**more):
            return {"custom_id": "a", "body": {"messages": [{"role": "user", "content": "x"}], **more}}

        own = {"prompt": "x"}
        for value in ([], "text", {"a": 1}, 5):
            refused({**own, "choices": value}, "choices: expected an array of 1 to 4096 texts")
        refused({**own, "choices": ["a"] * 4097}, "found 4097")
        refused({**own, "choices": ["a", ""]}, "choices[1]: expected text, found an empty string")
        refused({**own, "choices": ["a", 5]}, "choices[1]: expected a text, found 5")
        refused({**own, "choices": ["a " * 40000]}, code="context_length_exceeded")
        for name, value in (("n", 2), ("max_tokens", 4), ("stop", "a"), ("logprobs", 1), ("echo", True)):
            refused({**own, "choices": ["a"], name: value}, f"choices and {name}: ")
        refused(
            {"custom_id": "a", "body": {**own, "choices": ["a"]}}, "choices: is no member", code="unsupported"
        )
        for value in (-1, 21, 1.5, "2", True):
            refused({**own, "logprobs": value}, "logprobs: expected a whole number from 0 to 20")
        refused({**own, "echo": 1}, "echo: expected true or false")
        refused({**own, "top_logprobs": 2}, "top_logprobs: is of /v1/chat/completions", code="unsupported")
        refused(chat(logprobs=2), "logprobs: expected true or false, found 2")
        refused(chat(top_logprobs=2), 'expected "logprobs": true beside it')
        refused(chat(logprobs=True, top_logprobs=21), "top_logprobs: expected a whole number from 0 to 20")
        refused(chat(echo=True), "echo: not supported with messages", code="unsupported")

    def test_echo_needs_a_prompt_as_it_is(self):
        error = self.answers({"prompt": "x", "echo": True}, code=1, options=["--chat"])[0]["error"]
        self.assertEqual(error["code"], "unsupported")
        self.assertIn("completed as it is", error["message"])

    @unittest.skipUnless(REAL, "LAPIDARY_TEST_MODEL is not set")
    def test_bytes_that_are_no_characters(self):
        body = {"prompt": "𓀀𓀁", "max_tokens": 0, "echo": True, "logprobs": 0}
        lines = self.path("in.jsonl", json.dumps({"custom_id": "a", "body": body}) + "\n")
        done = self.ok("batch", "-q", "-m", REAL, "-c", "256", lines, "-o", "-")
        choice = json.loads(done)["response"]["body"]["choices"][0]
        tokens = choice["logprobs"]["tokens"]
        self.assertEqual(choice["text"], "𓀀𓀁")
        shown = b"".join(
            bytes(int(b, 16) for b in token[8:].split("\\x")) if token.startswith("bytes:") else token.encode()
            for token in tokens[1:]
        )
        self.assertEqual(shown.decode(), choice["text"])
        self.assertTrue(any(token.startswith("bytes:\\x") for token in tokens), tokens)


if __name__ == "__main__":
    main()
