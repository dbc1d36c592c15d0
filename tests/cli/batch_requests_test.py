"""Every member of a request is used, changes nothing, or is refused by name."""

import json

from harness import TINY, Case, main


class Requests(Case):
    def answer(self, request):
        """The answer to one request: a dictionary, or a line of text."""
        text = request if isinstance(request, str) else json.dumps(request)
        done = self.run_cli(
            "batch", "-q", "-m", TINY, self.path("in.jsonl", text + "\n"), "-o", "-", "--seed", "3",
            "-n", "4",
        )
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return json.loads(done.stdout)

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
            ("logprobs", True),
            ("logprobs", 5),
            ("top_logprobs", 2),
            ("logit_bias", {"5": -100}),
            ("frequency_penalty", 0.5),
            ("presence_penalty", -1),
            ("echo", True),
            ("stream", True),
            ("n", 2),
            ("best_of", 3),
            ("suffix", "end"),
            ("modalities", ["text", "audio"]),
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
        }
        self.assertEqual(self.answer({"prompt": "x", **harmless})["text"], wanted)
        body = self.answer({"custom_id": "a", "body": {"prompt": "x", **harmless}})["response"]["body"]
        self.assertEqual(body["choices"][0]["text"], wanted)

    def test_slips_are_told(self):
        for name, meant in [
            ("max_token", "max_tokens"), ("temprature", "temperature"), ("topk", "top_k"),
            ("message", "messages"), ("Prompt", "prompt"),
        ]:
            self.refused({"prompt": "x", name: 1}, f"{name}: not a member", f"did you mean {meant}?")
        self.assertNotIn("did you mean", self.refused({"prompt": "x", "zzzzzz": 1})["message"])
        self.refused({"custom_id": "a", "boddy": 1, "body": {"prompt": "x"}}, "did you mean body?")
        self.refused(
            {"messages": [{"role": "user", "content": "x", "contents": "y"}]}, "did you mean content?"
        )

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

    def test_limits_are_those_of_the_command_line(self):
        self.refused({"prompt": "x", "top_k": 5.5}, "top_k: expected a whole number from 0 to 2147483647")
        self.refused({"prompt": "x", "seed": -2}, "seed: expected", "-1 for a random one")
        self.refused({"prompt": "x", "seed": 1.5}, "seed: expected")
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
            self.refused(line, "nested deeper than 200 levels at byte", code="invalid_json")
        self.assertIn("text", self.answer({"prompt": "[" * 1000 + '\\"' + "{" * 1000}))
        self.assertIn("text", self.answer('{"id": ' + "[" * 150 + "]" * 150 + ', "prompt": "x"}'))

    def test_the_place_is_told(self):
        self.refused('{"id": 1, "prompt": x}', "not valid JSON at byte 21", code="invalid_json")

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


if __name__ == "__main__":
    main()
