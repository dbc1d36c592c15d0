"""Every member of a request is used, changes nothing, or is refused by name."""

import json
import resource
import subprocess
import time
import unittest

from harness import LAPIDARY, TIMEOUT, TINY, Case, main, settled


class Requests(Case):
    def answer(self, request):
        """The answer to one request: a dictionary, or a line of text."""
        text = request if isinstance(request, str) else json.dumps(request)
        done = self.run_cli(
            "batch", "-q", "-m", TINY, self.path("in.jsonl", text + "\n"), "-o", "-", "--seed", "3",
            "-n", "4",
        )
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return json.loads(settled(done.stdout))

    def refused(self, request, *words, code="invalid_request"):
        error = self.answer(request)["error"]
        self.assertEqual((error["code"], error["line"]), (code, 1), error)
        for word in words:
            self.assertIn(word, error["message"])
        self.assertLess(len(error["message"]), 500)
        return error

    def test_what_is_not_supported_is_refused_by_name(self):
        for name, value in [
            ("response_format", {"type": "json_object"}),
            ("tools", [{"type": "function"}]),
            ("logit_bias", {"5": -100}),
            ("frequency_penalty", 0.5),
            ("presence_penalty", -1),
            ("stream", True),
            ("best_of", 3),
            ("suffix", "end"),
            ("modalities", ["text", "audio"]),
            ("audio", {}),
            ("reasoning_effort", "high"),
            ("verbosity", "low"),
            ("web_search_options", {}),
            ("min_tokens", 5),
            ("ignore_eos", True),
            ("stop_token_ids", [1]),
            ("typical_p", 0.5),
            ("mirostat", 2),
            ("repeat_last_n", 32),
            ("grammar", "root ::= x"),
            ("json_schema", {"type": "object"}),
            ("format", "json"),
            ("options", {"temperature": 0}),
        ]:
            with self.subTest(name=name):
                self.refused({"prompt": "x", name: value}, name + ": not supported", code="unsupported")
                self.refused(
                    {"custom_id": "a", "body": {"prompt": "x", name: value}},
                    "body." + name,
                    code="unsupported",
                )

    def test_what_asks_for_nothing_passes(self):
        wanted = self.answer({"prompt": "x"})["text"]
        harmless = {
            "user": "u", "store": True, "metadata": {"a": 1}, "stream": False, "n": 1,
            "service_tier": "auto", "model": "any", "logprobs": None, "frequency_penalty": 0.0,
            "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
            "logit_bias": {}, "echo": False, "seed": None, "unknown": None,
            "min_tokens": 0, "repeat_last_n": 64, "reasoning_effort": "none", "prediction": {"a": 1},
            "cache_prompt": True, "keep_alive": -1,
        }
        self.assertEqual(self.answer({"prompt": "x", **harmless})["text"], wanted)
        body = self.answer({"custom_id": "a", "body": {"prompt": "x", **harmless}})["response"]["body"]
        self.assertEqual(body["choices"][0]["text"], wanted)

    def test_slips_are_told(self):
        for name, meant in [
            ("max_token", "max_tokens"), ("temprature", "temperature"), ("topk", "top_k"),
            ("message", "messages"), ("Prompt", "prompt"), ("topK", "top_k"), ("stop_sequences", "stop"),
        ]:
            self.refused({"prompt": "x", name: 1}, f"{name}: not a member", f"did you mean {meant}?")
        error = self.refused({"prompt": "x", "zzzzzz": 1}, "what is your own may stand in metadata")
        self.assertNotIn("did you mean", error["message"])
        self.refused({"custom_id": "a", "boddy": 1, "body": {"prompt": "x"}}, "did you mean body?")
        self.refused(
            {"messages": [{"role": "user", "content": "x", "contents": "y"}]},
            "messages[0].contents: not a member",
            "did you mean content?",
        )

    def test_members_within_messages(self):
        def parts(*parts):
            return {"messages": [{"role": "user", "content": list(parts)}]}

        said = {"role": "assistant", "content": "b", "refusal": None, "annotations": [], "tool_calls": []}
        users = [{"role": "user", "content": "a", "name": "me"}, {"role": "user", "content": "c"}]
        plain = {"role": "assistant", "content": "b"}
        wanted, got = (
            self.answer({"messages": [users[0], reply, users[1]]})["usage"] for reply in (plain, said)
        )
        self.assertEqual(got, wanted)
        for reply, name in [
            ({"role": "assistant", "content": None, "tool_calls": [{"id": "t"}]}, "tool_calls"),
            ({"role": "user", "content": "x", "tool_call_id": "t"}, "tool_call_id"),
            ({"role": "user", "content": "x", "function_call": {}}, "function_call"),
            ({"role": "user", "content": "x", "refusal": "no"}, "refusal"),
        ]:
            self.refused(
                {"messages": [users[0], reply]}, f"messages[1].{name}: not supported", code="unsupported"
            )
        where = "messages[0].content[1]"
        text = {"type": "text", "text": "x"}
        url = {"type": "image_url", "image_url": {"url": "a.png", "detail": "low", "detial": 1}}
        for part, words in [
            ({**text, "path": "a.png"}, [where + ".path: not a member"]),
            (url, [where + ".image_url.detial: not a member", "did you mean detail?"]),
            ({"type": "image", "path": "a.png", "url": "b.png"}, [where, "one of path, url and image"]),
            ({"type": "image", "paths": "a.png"}, [where + ".paths", "did you mean path?"]),
            ({"type": "input_audio", "input_audio": {}}, [where + ": expected {type: text", "input_audio"]),
        ]:
            with self.subTest(part=part):
                self.refused(parts(text, part), *words)

    def test_openai_addresses(self):
        chat = {"messages": [{"role": "user", "content": "x"}]}
        text = {"prompt": "x"}
        for url, body in [("/v1/chat/completions", chat), ("http://host/v1/completions", text)]:
            line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
            self.assertEqual(self.answer(line)["error"], None)
        for url in ("/v1/embeddings", "/v1/responses", 5):
            self.refused(
                {"custom_id": "a", "url": url, "body": text}, "url: not supported", code="unsupported"
            )
        self.refused({"custom_id": "a", "url": "/v1/chat/completions", "body": text}, "with a prompt")
        self.refused({"custom_id": "a", "url": "/v1/completions", "body": chat}, "with messages")
        self.refused({"custom_id": "a", "method": "GET", "body": text}, "method", code="unsupported")
        self.refused({"custom_id": "a", "prompt": "x"}, "body: expected an object")

    def test_null_is_absent(self):
        line = self.answer({"custom_id": "a", "body": {"messages": None, "prompt": "x"}})
        self.assertEqual(line["response"]["body"]["object"], "text_completion")
        line = self.answer({"custom_id": None, "body": None, "id": "q", "prompt": "x"})
        self.assertEqual((line["id"], "text" in line), ("q", True))

    def test_ids(self):
        for value in ("a", "y" * 990, 7, 1.5, -3, 2**64 - 1, None):
            line = self.answer({"id": value, "prompt": "x"})
            self.assertEqual((line["id"], "text" in line), (value, True))
        for value in ([2], {"a": 1}, True, "y" * 5000, "[" * 5000):
            self.assertEqual(self.refused({"id": value, "prompt": "x"}, "id: expected")["code"], "invalid_request")
            self.assertIsNone(self.answer({"id": value, "prompt": "x"})["id"])
        # A number that would come back as another one.
        self.refused('{"id": 123456789012345678901234567890, "prompt": "x"}', "at most 15 digits")
        line = self.answer({"custom_id": ["a"], "body": {"prompt": "x"}})
        self.assertEqual((line["custom_id"], line["error"]["code"]), (None, "invalid_request"))

    def test_a_member_that_stands_twice(self):
        self.refused(
            '{"prompt": "x", "temperature": 0, "prompt": "y"}', '"prompt" twice', code="invalid_json"
        )
        self.refused('{"prompt": "x", "metadata": [{"a": 1, "a": 1}]}', '"a" twice', code="invalid_json")
        self.assertIn("text", self.answer('{"prompt": "x", "metadata": [{"a": {"a": 1}}, {"a": 1}]}'))

    def test_other_names_of_the_same(self):
        for name in ("max_completion_tokens", "num_predict", "n_predict", "max_new_tokens"):
            self.assertEqual(
                self.answer({"prompt": "x", name: 2, "temperature": 0})["usage"]["completion_tokens"], 2
            )
        one = {"prompt": "hello hello", "temperature": 0, "repeat_penalty": 5, "max_tokens": 30}
        other = {"prompt": "hello hello", "temp": 0, "repetition_penalty": 5, "max_tokens": 30}
        self.assertEqual(self.answer(one)["text"], self.answer(other)["text"])
        self.refused({"prompt": "x", "max_tokens": 1, "num_predict": 2}, "two things")
        self.assertIn("text", self.answer({"prompt": "x", "max_tokens": 2, "num_predict": 2}))

    def test_a_system_text(self):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]
        wanted = self.answer({"messages": messages})["usage"]["prompt_tokens"]
        self.assertEqual(
            self.answer({"system": "Be brief.", "prompt": "x"})["usage"]["prompt_tokens"], wanted
        )
        self.assertEqual(
            self.answer({"system": "Be brief.", "messages": messages[1:]})["usage"]["prompt_tokens"],
            wanted,
        )
        self.refused({"system": "Be brief.", "messages": messages}, "system message too")
        self.refused({"system": ["Be brief."], "prompt": "x"}, "system: expected a string")
        self.refused(
            {"custom_id": "a", "body": {"system": "Be brief.", "prompt": "x"}}, "has no place for it"
        )
        self.assertEqual(self.answer({"system": "", "prompt": "x"}), self.answer({"prompt": "x"}))

    def test_limits_are_those_of_the_command_line(self):
        self.refused({"prompt": "x", "top_k": 5.5}, "top_k: expected a whole number from 0 to 2147483647")
        self.refused({"prompt": "x", "seed": -2}, "seed: expected", "-1 for a random one")
        self.refused({"prompt": "x", "seed": 1.5}, "seed: expected")
        self.refused({"prompt": "x", "seed": 2.0**60}, "seed: expected")
        self.assertEqual(
            self.answer({"prompt": "x", "seed": 3.0}), self.answer({"prompt": "x", "seed": 3})
        )
        self.assertEqual(
            self.answer({"prompt": "x", "max_tokens": 0})["usage"]["completion_tokens"], 0
        )
        self.refused({"prompt": "x", "max_tokens": -2}, "a whole number from -1 to 2147483647, found -2")
        self.refused({"prompt": "x", "max_tokens": 2**31}, "found 2147483648")
        self.refused({"prompt": "x", "stop": ""}, "stop: expected text")
        self.refused({"prompt": "x", "stop": ["a", ""]}, "stop: expected text")
        self.refused({"messages": [{"role": "wizard", "content": "x"}]}, "system, user or assistant")
        self.refused({"custom_id": 5, "body": {"prompt": "x"}}, "custom_id: expected a string")
        first, second = (self.answer({"prompt": "x", "seed": -1})["usage"]["seed"] for _ in range(2))
        self.assertEqual(first, second)  # As without a seed: that of the batch and the line.
        self.assertIn("text", self.answer({"prompt": "x", "max_tokens": -1, "stop": "e"}))


class Attacks(Requests):
    def test_nesting(self):
        deep = "[" * 100_000 + "]" * 100_000
        objects = '{"a":' * 100_000 + "1" + "}" * 100_000
        for line in [
            f'{{"prompt": {deep}}}',
            f'{{"id": {deep}, "prompt": "x"}}',
            f'{{"id": 1, "prompt": "x", "temperature": {objects}}}',
            deep,
            "[" * 100_000,
        ]:
            self.refused(line, "too large: it has more than 200 levels of nesting at byte", code="invalid_json")
        self.assertIn("text", self.answer({"prompt": "[" * 1000 + '\\"' + "{" * 1000}))
        metadata = "[" * 150 + "]" * 150
        self.assertIn("text", self.answer(f'{{"metadata": {metadata}, "prompt": "x"}}'))

    def test_members_and_values(self):
        """Objects are looked up one member after the other, and the library's destructor takes memory."""
        members = ",".join(f'"m{i}":{i}' for i in range(100_000))
        start = time.monotonic()
        self.refused(f'{{"prompt": "x", {members}}}', "more than 1000 members in one object at byte", code="invalid_json")
        self.refused(f'{{"prompt": "x", "metadata": {{{members}}}}}', "more than 1000 members", code="invalid_json")
        self.refused('{"prompt": [' + "0," * 5_000_000 + "0]}", "more than 1000000 brackets", code="invalid_json")
        self.refused('{"prompt": [' + "{}," * 5_000_000 + "{}]}", "more than 1000000 brackets", code="invalid_json")
        self.assertLess(time.monotonic() - start, 20)
        few = ",".join(f'"m{i}":{i}' for i in range(1000))
        self.assertIn("text", self.answer(f'{{"prompt": "x", "metadata": {{{few}}}}}'))

    @unittest.skipIf("asan" in LAPIDARY, "sanitizers take memory of their own")
    def test_a_line_without_memory_costs_that_line(self):
        """Under a hard limit of the process, whichever step it is that fails."""
        seen = set()
        values = '{"id": 1, "prompt": "x", "user": [' + "{}," * 400_000 + "{}]}"
        text = '{"id": 1, "prompt": "x", "user": "' + "y" * 60_000_000 + '"}'
        for line in [values, text]:
            requests = self.path("in.jsonl", line + '\n{"id": 2, "prompt": "x"}\n')
            for limit in range(130, 330, 10):
                done = subprocess.run(
                    [LAPIDARY, "batch", "-m", TINY, "-n", "1", "-o", "-", requests],
                    capture_output=True,
                    timeout=TIMEOUT,
                    env=self.environment,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20)),
                )
                if done.returncode == 4 and not done.stdout:
                    continue  # The threads that load reserve address space, some more, some less.
                answers = [json.loads(answer) for answer in done.stdout.splitlines()]
                self.assertEqual(len(answers), 2, done.stderr)
                self.assertIn("text", answers[1])
                seen.add(answers[0].get("error", {}).get("code"))
        self.assertEqual(seen, {None, "out_of_memory"})

    def test_the_place_is_told(self):
        self.refused('{"id": 1, "prompt": x}', "not valid JSON at byte 21", code="invalid_json")
        self.refused('{"prompt": "x", "seed": 1e999}', "a number beyond", code="invalid_json")
        self.refused({"messages": [{"role": "user", "content": "x"}, "y"]}, "messages[1]: expected")

    def test_values_are_quoted_short(self):
        big = "y" * 10_000_000
        for request in [
            {"prompt": "x", "temperature": big},
            {"prompt": [big]},
            {"prompt": "x", "stop": {"a": big}},
            {"prompt": "x", "seed": big},
            {"prompt": "x", big: 1},
            {"prompt": "x", "n": big},
            {"messages": [{"role": big, "content": "x"}]},
            {"messages": [big]},
            {"messages": [{"role": "user", "content": [{"type": big}]}]},
            {"prompt": "x", "images": [{"a": big}]},
            {"prompt": "x", "images": [big]},
            {"prompt": "x", "images": ["file://" + big]},
            {"prompt": "x", "images": ["file:///%" + big]},
            {"prompt": "x", "images": ["file:///" + big]},
            {"prompt": "x", "images": [big + "://a.png"]},
            {"id": big, "prompt": "x"},
            {"id": [big], "prompt": "x"},
        ]:
            error = self.answer(request)["error"]
            self.assertLess(len(error["message"]), 500)


class Lines(Case):
    def test_tokenize_writes_what_comes_before_a_bad_line(self):
        lines = self.path("t.jsonl", '{"text": "a"}\n{"text": "b"}\n{"text": 5}\n{"text": "c"}\n')
        done = self.run_cli("tokenize", "-m", TINY, "--jsonl", lines)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(len(done.stdout.splitlines()), 2)
        self.assertIn(b"line 3", done.stderr)

    def test_tokenize_refuses_what_is_nested_without_end(self):
        deep = "[" * 100_000 + "]" * 100_000
        for options, field in [((), "text"), (("--decode",), "ids")]:
            lines = self.path("t.jsonl", f'{{"{field}": {deep}}}\n')
            done = self.run_cli("tokenize", "-m", TINY, "--jsonl", lines, *options)
            self.assertEqual((done.returncode, done.stdout), (3, b""))
            self.assertIn(b"line 1 is too large: it has more than 200 levels", done.stderr)
            self.assertLess(len(done.stderr), 1000)
        self.fails(2, "the ids", "tokenize", "-m", TINY, "--decode", input=deep)


if __name__ == "__main__":
    main()
