"""Chat templates: what a file's own is taken for, and `--template`."""

import json

from gguf import Gguf
from harness import TINY, Case, main

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
GEMMA = "{{ bos_token }}<start_of_turn>user\n{{ m }}<end_of_turn>\n<start_of_turn>model\n"
OTHER = "[INST] {{ m }} [/INST]"


class Template(Case):
    def model(self, template, tokens=False):
        """The tiny model with a chat template; with `tokens`, ChatML's markers are in its vocabulary, as normal tokens."""
        model = Gguf(TINY).set_string("tokenizer.chat_template", template)
        if tokens:
            kind, (element, values) = model.keys["tokenizer.ggml.tokens"]
            values[6:8] = [b"<|im_start|>", b"<|im_end|>"]
            kind, (element, values) = model.keys["tokenizer.ggml.token_type"]
            values[6:8] = [1, 1]
        return model.write(self.path("model.gguf"))

    def ids(self, text, model=TINY):
        return json.loads(self.ok("tokenize", "-q", "-m", model, "--parse-control", text))

    def prompt(self, model, *options, text="hello"):
        return self.generate("-p", text, "-n", "1", *options, model=model)["prompt_ids"]

    def warnings(self, model, *arguments, input=b""):
        done = self.run_cli(*arguments, "-m", model, "-n", "1", input=input)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr.decode().count("warning: the file's chat template is none that is known")

    def test_inspect_tells(self):
        for text, name, words in (
            (GEMMA, "gemma", "gemma"),
            (CHATML, "chatml", "chatml"),
            (OTHER, "unknown", "none that is known here"),
            ("", "none", "base model"),
        ):
            model = self.model(text)
            self.assertIn(words, self.ok("inspect", model))
            got = json.loads(self.ok("inspect", "--json", model))
            self.assertEqual((got["chat_template"], got["instruction_tuned"]), (name, name != "none"))

    def test_a_file_is_answered_in_its_own(self):
        gemma = self.ids("<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n")
        chatml = "<bos><|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual(self.prompt(self.model(GEMMA)), gemma)
        self.assertEqual(self.prompt(self.model(OTHER)), gemma)
        self.assertEqual(self.prompt(self.model(CHATML)), self.ids(chatml))
        model = self.model(CHATML, tokens=True)
        ids = self.ids(chatml, model)
        self.assertEqual(self.prompt(model), ids)
        self.assertEqual(ids.count(6), 2)
        # Nobody's text ends a turn.
        self.assertEqual(self.prompt(model, text="a<|im_end|>b").count(7), 1)

    def test_the_end_of_a_turn_stops(self):
        model = Gguf(TINY).set_string("tokenizer.chat_template", CHATML)
        options = ["--temp", "0", "--no-chat", "-n", "3"]
        drawn = self.generate("-p", "hello", *options)["ids"]
        kind, (element, values) = model.keys["tokenizer.ggml.tokens"]
        values[drawn[1]] = b"<|im_end|>"
        path = model.write(self.path("ends.gguf"))
        got = self.generate("-p", "hello", *options, model=path)
        self.assertEqual((got["ids"], got["finish_reason"]), (drawn[: drawn.index(drawn[1]) + 1], "stop"))

    def test_the_option_chooses(self):
        text = "  hello"
        plain = self.prompt(TINY, "--no-chat", text=text)
        chatml = self.prompt(self.model(CHATML), text=text)
        gemma = self.prompt(self.model(GEMMA), text=text)
        self.assertNotIn(plain, (chatml, gemma))
        for template in (GEMMA, CHATML, OTHER, ""):
            model = self.model(template)
            self.assertEqual(self.prompt(model, "--template", "none", text=text), plain)
            self.assertEqual(self.prompt(model, "--template", "chatml", text=text), chatml)
            self.assertEqual(self.prompt(model, "--template", "gemma", text=text), gemma)
            self.assertEqual(self.prompt(model, "--template", "gemma", "--no-chat", text=text), plain)
        self.fails(2, "--template", "generate", "-m", TINY, "-p", "x", "--template", "llama")

    def test_another_template_is_warned_of_once(self):
        other = self.model(OTHER)
        self.assertEqual(self.warnings(other, "generate", "-p", "x"), 1)
        self.assertEqual(self.warnings(other, "generate", "-p", "x", "-q"), 0)
        self.assertEqual(self.warnings(other, "generate", "-p", "x", "--no-chat"), 0)
        self.assertEqual(self.warnings(other, "generate", "-p", "x", "--template", "gemma"), 0)
        self.assertEqual(self.warnings(other, "chat", input=b"one\ntwo\n"), 1)
        lines = self.path("in.jsonl", '{"id": 1, "prompt": "a"}\n{"id": 2, "prompt": "b"}\n')
        self.assertEqual(self.warnings(other, "batch", lines, "-o", self.path("out.jsonl")), 1)
        self.assertEqual(self.warnings(self.model(CHATML), "generate", "-p", "x"), 0)

    def test_chats_and_batches_follow_it(self):
        options = ["-q", "-n", "4", "--temp", "0"]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}]
        lines = self.path("in.jsonl", json.dumps({"id": 1, "messages": messages}) + "\n")
        replies = set()
        for number, (template, tokens) in enumerate([(CHATML, False), (CHATML, True), (GEMMA, False)]):
            model = self.model(template, tokens)
            out = self.path(f"out{number}.jsonl")
            self.ok("batch", lines, "-o", out, "-m", model, *options)
            with open(out, encoding="utf-8") as file:
                answer = json.loads(file.readline())
            chat = [*("chat", "-m", model, "--system", "Be brief."), *options]
            talk = self.ok(*chat, input="one\ntwo\n")
            self.assertTrue(talk.startswith(answer["text"]), (talk, answer))
            self.assertGreater(len(talk), len(answer["text"]) + 1)
            replies.add((talk, answer["usage"]["prompt_tokens"]))
        self.assertEqual(len(replies), 3)

    def test_a_batch_of_another_template_is_another_batch(self):
        lines = self.path("in.jsonl", '{"id": 1, "prompt": "a"}\n')
        command = ["batch", lines, "-o", self.path("out.jsonl"), "-q", "-m", self.model(CHATML), "-n", "1"]
        self.ok(*command)
        self.ok(*command)
        self.fails(2, "changed", *command, "--template", "gemma")

    def test_a_vocabulary_without_turns_can_chat_in_chatml(self):
        model = Gguf(TINY)
        kind, (element, values) = model.keys["tokenizer.ggml.tokens"]
        values[105:107] = [b"<one>", b"<two>"]
        path = model.write(self.path("bare.gguf"))
        self.fails(2, "<start_of_turn>", "chat", "-q", "-m", path, "-n", "1", input="hello\n")
        for template in ("chatml", "none"):
            self.ok("chat", "-q", "-m", path, "-n", "1", "--template", template, input="hello\n")


if __name__ == "__main__":
    main()
