"""What a file is, what of it is not understood, and the memory that a run of it takes."""

import json
import os
import shutil
import struct
import subprocess
import unittest

from harness import DATA, LAPIDARY, REAL_MODEL, TINY, Case, main

MMPROJ = os.path.join(DATA, "tiny-gemma3-mmproj-f16.gguf")


class Inspect(Case):
    def json(self, *words):
        return json.loads(self.ok("inspect", *words, "--json"))

    def test_special_tokens_template_and_the_vision_file_beside(self):
        got = self.json(TINY)
        self.assertEqual((got["tokens"]["bos"], got["tokens"]["eos"]), (2, 1))
        self.assertEqual(got["tokens"]["start_of_turn"], 105)
        self.assertIn(106, got["tokens"]["stop"])
        self.assertEqual(got["chat_template"], "none")
        self.assertEqual(got["vision_file"], MMPROJ)
        self.assertTrue(any("token_type" in line for line in got["warnings"]))
        text = self.ok("inspect", TINY)
        for words in ("start_of_turn 105", "tiny-gemma3-mmproj", "together", "warning"):
            self.assertIn(words, text)
        alone = shutil.copy(TINY, self.path("alone.gguf"))
        self.assertIsNone(self.json(alone)["vision_file"])

    def test_metadata_and_tensors_are_shown_on_request(self):
        got = self.json(TINY, "--metadata", "--tensors")
        self.assertEqual(got["metadata"]["gemma3.block_count"], "8")
        self.assertIn("(1763 elements)", got["metadata"]["tokenizer.ggml.tokens"])
        self.assertEqual(len(got["tensors"]), sum(t["tensors"] for t in got["types"]))
        embedding = next(t for t in got["tensors"] if t["name"] == "token_embd.weight")
        self.assertEqual((embedding["type"], embedding["shape"]), ("BF16", [64, 1763]))
        text = self.ok("inspect", TINY, "--metadata", "--tensors")
        self.assertIn("gemma3.block_count = 8", text)
        self.assertRegex(text, r"token_embd.weight +BF16 +64 x 1763")
        self.assertNotIn("token_embd", self.ok("inspect", TINY))

    def test_vision_files(self):
        got = self.json(MMPROJ)
        self.assertEqual((got["architecture"], got["layers"], got["text_width"]), ("clip", 2, 64))
        self.assertIn("256 tokens each", self.ok("inspect", MMPROJ))

    def test_a_context_beyond_the_trained_one_is_told(self):
        trained = self.json(TINY)["trained_context"]
        self.assertNotIn("trained for", self.ok("inspect", TINY, "-c", str(trained)))
        self.assertIn("trained for", self.ok("inspect", TINY, "-c", str(trained + 1)))
        words = ("generate", "-m", TINY, "-n", "1", "-p", "x", "-c", str(trained + 1))
        self.assertEqual(self.run_cli(*words).stderr.count(b"trained for"), 1)
        self.assertEqual(self.run_cli(*words, "-q").stderr, b"")


class Templates(Case):
    def patched(self, template):
        """The tiny model with a chat template: a key more in the header, padded to the alignment."""
        import struct

        with open(TINY, "rb") as file:
            data = file.read()
        tensors, keys = struct.unpack("<QQ", data[8:24])
        name = b"tokenizer.chat_template"
        size = lambda text: struct.pack("<Q", len(text)) + text
        # Tensors begin at a multiple of 32: what is put in has such a length.
        room = 8 + len(name) + 4 + 8
        text = template.encode()
        text += b" " * (-(room + len(text)) % 32)
        key = size(name) + struct.pack("<I", 8) + size(text)
        return self.path(
            "patched.gguf", data[:16] + struct.pack("<Q", keys + 1) + key + data[24:]
        )

    def ids(self, model, *words):
        return self.generate("-p", "hello", "-n", "1", "--seed", "1", *words, model=model)["prompt_ids"]

    def encode(self, text):
        return [2] + json.loads(self.ok("tokenize", "-m", TINY, "--parse-control", text))

    def test_gemmas_own_is_the_default(self):
        model = self.patched("<start_of_turn>user {{ x }}<end_of_turn>")
        wanted = self.ids(TINY, "--chat")
        self.assertEqual(self.ids(model), wanted)
        self.assertNotIn(b"template", self.run_cli("generate", "-m", model, "-n", "1", "x").stderr)
        plain = self.ids(TINY, "--no-chat")
        self.assertEqual(self.ids(model, "--template", "none"), plain)
        self.assertEqual(self.ids(TINY, "--template", "gemma"), wanted)

    def test_chatml_is_recognised(self):
        model = self.patched("<|im_start|>{{ role }}\n{{ x }}<|im_end|>")
        self.assertEqual(json.loads(self.ok("inspect", model, "--json"))["chat_template"], "chatml")
        wanted = self.encode("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual(self.ids(model), wanted)
        self.assertEqual(self.ids(TINY, "--template", "chatml"), wanted)
        done = self.run_cli("chat", "-m", model, "-n", "3", input=b"hello\nmore\n/tokens\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"by 2 turns", done.stderr)
        line = json.dumps({"id": 1, "prompt": "hello", "max_tokens": 1}) + "\n"
        got = json.loads(self.ok("batch", "-q", "-m", model, "-", "-o", "-", input=line))
        self.assertEqual(got["usage"]["prompt_tokens"], len(wanted))

    def test_an_unknown_one_is_told(self):
        model = self.patched("[INST] {{ x }} [/INST]")
        done = self.run_cli("generate", "-m", model, "-n", "1", "x")
        self.assertEqual(done.stderr.count(b"chat template is none that is known"), 1)
        self.assertEqual(self.run_cli("generate", "-q", "-m", model, "-n", "1", "x").stderr, b"")
        self.assertIn("unknown", self.ok("inspect", model))


class Memory(Case):
    def peak(self, *words):
        """Most bytes that a run had resident."""
        process = subprocess.Popen(
            [LAPIDARY, *words], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        error = process.stderr.read()
        process.stderr.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, error)
        return usage.ru_maxrss * 1024

    def announced(self, model, context):
        return json.loads(self.ok("inspect", model, "-c", context, "--json"))["memory_bytes"]

    @unittest.skipUnless(REAL_MODEL, "needs the real model")
    @unittest.skipIf("asan" in LAPIDARY, "sanitizers take memory of their own")
    def test_a_run_takes_what_is_announced(self):
        for context, words in (("512", 480), ("8192", 8000), ("16384", 2000)):
            prompt = self.path("prompt.txt", "word " * words)
            peak = self.peak(
                "generate", "-m", REAL_MODEL, "-c", context, "-n", "8", "-f", prompt, "-q"
            )
            announced = self.announced(REAL_MODEL, context)
            self.assertLess(peak, 1.03 * announced, context)
            self.assertGreater(peak, 0.75 * announced, context)

    def test_the_limit_is_that_sum(self):
        announced = self.announced(TINY, "4096")
        words = ("generate", "-q", "-m", TINY, "-p", "x", "-n", "1", "-c", "4096", "--memory-limit")
        self.ok(*words, str(announced))
        error = self.fails(4, ["4096 tokens", "would fit"], *words, str(announced - 1))
        fits = error.split("; -c ")[1].split()[0]
        self.ok(*words[:-2], fits, "--memory-limit", str(announced - 1))
        self.fails(4, "no context would fit", *words, "5M")
        # Before anything of the weights is read: a file of zeros behind its header is no matter.
        with open(TINY, "rb") as file:
            data = file.read()
        cut = self.path("cut.gguf", data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
        self.fails(3, "the download may be incomplete", "generate", "-m", cut, "-p", "x")
        self.fails(4, "memory limit", "generate", "-m", cut, "-p", "x", "--memory-limit", "5M")


    def test_bench_counts_what_it_measures_with(self):
        bench = ("bench", "-m", TINY, "--prefill", "8", "--decode", "2", "--rounds", "1", "--memory-limit")
        self.fails(4, "memory limit is 200.0 MiB", *bench, "200M")
        self.ok(*bench, "600M")

    def test_what_is_left_is_for_pictures_and_requests(self):
        both = self.ok("inspect", TINY, "-c", "4096", "--json")
        with_pictures = json.loads(both)["memory_bytes_with_pictures"]
        self.assertGreater(with_pictures, self.announced(TINY, "4096"))
        big = self.path("big.bmp", bmp(1500, 1500))  # 6.75 MB, and twice that while it is read.
        lines = [{"id": 1, "images": [big], "prompt": "x"}, {"id": 2, "prompt": "y" * 3_000_000},
                 {"id": 3, "prompt": "x"}]
        requests = self.path("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        batch = ("batch", "-q", "-m", TINY, "--mmproj", MMPROJ, "-c", "4096", "-n", "1", requests, "-o", "-",
                 "--memory-limit")
        # An engine for several sequences takes some megabytes more than the one session that is announced.
        done = self.run_cli(*batch, str(with_pictures + 8_000_000))
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(answers[0]["error"]["code"], "out_of_memory")
        self.assertRegex(answers[1]["error"]["message"], r"the line is longer than \d\d\d\.\d KiB")
        self.assertIn("text", answers[2])
        done = self.run_cli(*batch, str(with_pictures + 40_000_000))
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertIn("text", answers[0])
        self.assertEqual(answers[1]["error"]["code"], "context_length_exceeded")


def bmp(width, height):
    """A black picture without compression."""
    size = width * height * 3
    return (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54 + size, 0, 0, 54, 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
            + bytes(size))


class Endless(Case):
    @unittest.skipUnless(os.path.exists("/dev/zero"), "needs /dev/zero")
    def test_files_without_end_are_refused(self):
        self.fails(3, "at most 64.0 MiB", "generate", "-m", TINY, "-f", "/dev/zero")
        self.fails(3, "at most 1 MiB", "--config", "/dev/zero", "generate", "-m", TINY, "-p", "x")
        done = subprocess.run(
            ["bash", "-c", '"$0" --config <(echo "max-tokens = 1") generate -q -m "$1" -f <(echo hello)',
             LAPIDARY, TINY], env=self.environment, capture_output=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_prompt_that_cannot_fit_is_not_tokenized(self):
        prompt = self.path("long.txt", "word " * 2_000_000)
        self.fails(5, "at least", "generate", "-m", TINY, "-c", "1000", "-f", prompt)
        line = self.path("in.jsonl", json.dumps({"prompt": "word " * 2_000_000}) + "\n")
        done = self.run_cli("batch", "-q", "-m", TINY, "-c", "1000", line, "-o", "-")
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "context_length_exceeded")

    def test_a_prompt_that_fills_the_context_leaves_nothing_to_draw(self):
        count = len(self.generate("-p", "word " * 30, "-n", "1")["prompt_ids"])
        words = ("generate", "-q", "-m", TINY, "-p", "word " * 30)
        self.fails(5, f"{count} tokens, but the context holds {count}", *words, "-c", str(count))
        self.fails(5, "", *words, "-c", str(count - 1))
        self.ok(*words, "-c", str(count + 1))
        line = json.dumps({"prompt": "word " * 30}) + "\n"
        done = self.run_cli("batch", "-q", "-m", TINY, "-c", str(count), "-", "-o", "-", input=line)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "context_length_exceeded")


if __name__ == "__main__":
    main()
