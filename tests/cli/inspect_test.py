"""What `inspect` shows of a model's file and of a vision file, and what other commands say of one that is odd."""

import json
import os
import shutil

from gguf import Gguf
from harness import DATA, TINY, Case, Terminal, main

MMPROJ = os.path.join(DATA, "tiny-gemma3-mmproj-f16.gguf")


class Inspect(Case):
    def json(self, *arguments):
        return json.loads(self.ok("inspect", "--json", *arguments))

    def test_special_tokens_and_repairs(self):
        got = self.json(TINY)
        tokens = {token["name"]: (token["id"], token["stops"]) for token in got["special_tokens"]}
        self.assertEqual(tokens["<bos>"], (2, False))
        self.assertEqual(tokens["<end_of_turn>"], (106, True))
        self.assertEqual(len(got["repairs"]), 2)
        self.assertEqual((got["kind"], got["warnings"]), ("model", []))
        text = self.ok("inspect", TINY)
        self.assertIn("<end_of_turn> 106 (stops)", text)
        self.assertIn("<start_of_image> is normal, read as control", text)

    def test_metadata(self):
        value = "\x1b[2J\n\u202e" + "long " * 1000
        model = Gguf(TINY).set_string("general.description", value)
        model.keys["the.infinity"] = (12, float("inf"))
        path = model.write(self.path("model.gguf"))
        lines = [line.split(None, 2) for line in self.ok("inspect", path, "--metadata").splitlines()]
        rows = {line[0]: line[1:] for line in lines if len(line) == 3}
        self.assertEqual(rows["gemma3.block_count"], ["uint32", "8"])
        self.assertEqual(rows["gemma3.rope.freq_base"], ["float32", "1000000"])
        self.assertEqual(rows["tokenizer.ggml.add_space_prefix"], ["bool", "false"])
        self.assertEqual(rows["general.architecture"], ["string", '"gemma3"'])
        kind, shown = rows["tokenizer.ggml.tokens"]
        self.assertEqual(kind, "string[1763]")
        self.assertTrue(shown.startswith('"<pad>", "<eos>", "<bos>"') and shown.endswith(", …"))
        self.assertLess(len(rows["general.description"][1]), 220)
        self.assertNotIn("\x1b", rows["general.description"][1])
        got = self.json(path, "--metadata")["metadata"]
        self.assertEqual(got["gemma3.block_count"], 8)
        self.assertEqual(got["tokenizer.ggml.add_space_prefix"], False)
        self.assertEqual(got["general.description"], value)
        self.assertEqual(got["the.infinity"], "inf")
        self.assertEqual(got["tokenizer.ggml.token_type"]["count"], 1763)
        self.assertEqual(got["tokenizer.ggml.token_type"]["first"][:4], [3, 3, 3, 2])
        self.assertNotIn("metadata", self.json(path))

    def test_tensors(self):
        model = Gguf(TINY)
        got = self.json(TINY, "--tensors")["tensors"]
        self.assertEqual([tensor["name"] for tensor in got], list(model.tensors))
        self.assertEqual(got[0]["shape"], list(model.tensors[got[0]["name"]][0]))
        with open(TINY, "rb") as file:
            file.seek(got[5]["offset"])
            self.assertEqual(
                file.read(got[5]["bytes"]), model.tensors[got[5]["name"]][2][: got[5]["bytes"]]
            )
        text = self.ok("inspect", TINY, "--tensors")
        row = next(line.split() for line in text.splitlines() if "blk.3.ffn_down.weight" in line)
        self.assertEqual(row[:5], ["blk.3.ffn_down.weight", "BF16", "128x64", "16.0", "KiB"])

    def test_a_vision_file(self):
        got = self.json(MMPROJ)
        self.assertEqual(
            (got["kind"], got["layers"], got["image_size"], got["tokens"], got["text_width"]),
            ("vision", 2, 896, 256, 64),
        )
        text = self.ok("inspect", MMPROJ, "--tensors", "--metadata")
        for word in ("vision half", "256 tokens a view", "clip.vision.block_count", "v.post_ln.bias"):
            self.assertIn(word, text)
        other = Gguf(MMPROJ).set_string("clip.projector_type", "mlp").write(self.path("other.gguf"))
        self.fails(3, "clip.projector_type", "inspect", other)

    def test_vision_files_beside_the_model(self):
        model = shutil.copy(TINY, self.path("model.gguf"))
        self.assertEqual(self.json(model)["vision_files"], [])
        self.assertIn("(none beside it)", self.ok("inspect", model))
        one = shutil.copy(MMPROJ, self.path("a-mmproj.gguf"))
        self.assertEqual(self.json(model)["vision_files"], [one])
        self.assertIn(one, self.ok("inspect", model))
        two = shutil.copy(MMPROJ, self.path("b-mmproj.gguf"))
        self.assertEqual(self.json(model)["vision_files"], [one, two])
        self.assertIn("several: --mmproj chooses", self.ok("inspect", model))


class OddFiles(Case):
    def model(self, name="odd.gguf", **tensors):
        model = Gguf(TINY)
        for tensor, size in tensors.items():
            model.tensors[tensor.replace("__", ".")] = ((size,), 0, b"\1" * 4 * size)
        return model.write(self.path(name))

    def generate_errors(self, *arguments):
        done = self.run_cli("generate", "-p", "x", "-n", "1", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr.decode()

    def test_tensors_that_are_not_used_are_named_once(self):
        model = self.model(v__post_ln__weight=8, rope_freqs__weight=8)
        words = '2 tensors are not used: "rope_freqs.weight", "v.post_ln.weight"'
        self.assertIn("warning            " + words, self.ok("inspect", model))
        self.assertEqual(json.loads(self.ok("inspect", "--json", model))["warnings"], [words])
        errors = self.generate_errors("-m", model)
        self.assertEqual(errors.count(f"lapidary: warning: {model}: {words}"), 1, errors)
        self.assertEqual(self.generate_errors("-q", "-m", model), "")
        vision = Gguf(MMPROJ)
        vision.tensors["a.blk.0.weight"] = ((8,), 0, b"\1" * 32)
        path = vision.write(self.path("heard.gguf"))
        errors = self.generate_errors("-m", TINY, "--mmproj", path)
        self.assertIn(f'warning: {path}: 1 tensor is not used: "a.blk.0.weight"', errors)
        self.assertIn("1 tensor is not used", self.ok("inspect", path))

    def test_tensors_that_a_layer_does_not_know_are_refused(self):
        model = self.model(blk__0__attn_q__bias=128)
        for command in (["inspect"], ["generate", "-p", "x", "-m"]):
            self.fails(3, '"blk.0.attn_q.bias" of a layer is not known', *command, model)
        vision = Gguf(MMPROJ)
        vision.tensors["v.blk.1.ls1.weight"] = ((72,), 0, b"\1" * 288)
        path = vision.write(self.path("scaled.gguf"))
        self.fails(3, '"v.blk.1.ls1.weight" of a layer', "inspect", path)
        self.fails(3, "v.blk.1.ls1.weight", "generate", "-m", TINY, "-p", "x", "--mmproj", path)

    def test_a_file_whose_end_is_zeros(self):
        with open(TINY, "rb") as file:
            whole = file.read()
        for kept in (0.3, 0.75, 0.995):
            cut = whole[: int(len(whole) * kept)]
            path = self.path("cut.gguf", cut + bytes(len(whole) - len(cut)))
            self.fails(
                3, "the download may be incomplete", "generate", "-q", "-p", "x", "-m", path
            )

    def test_values_of_a_file_are_quoted(self):
        model = Gguf(TINY).set_string("gemma3.rope.scaling.type", "\x1b[2J" + "y" * 100000)
        done = self.run_cli("inspect", model.write(self.path("odd.gguf")))
        self.assertEqual(done.returncode, 3)
        self.assertIn(rb'rope.scaling.type is "\x1b[2Jyyy', done.stderr)
        self.assertLess(len(done.stderr), 400)

    def test_no_warning_on_a_terminal_for_the_tiny_model(self):
        terminal = Terminal(self, "tokenize", "-m", TINY, "hello")
        self.assertEqual(terminal.finish(), 0)
        self.assertNotIn("warning", terminal.text)


if __name__ == "__main__":
    main()
