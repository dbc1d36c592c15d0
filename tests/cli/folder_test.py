"""Folders as Hugging Face publishes models in: found, inspected, run, quantised on the way in."""

import json
import os
import shutil
import struct
import unittest

from folders import Vocabulary, read_safetensors, write_safetensors
from harness import DATA, REAL_MODEL, TINY, Case, main

FOLDER = os.path.join(DATA, "tiny-gemma3-hf")
MMPROJ = os.path.join(DATA, "tiny-gemma3-mmproj-f16.gguf")
PICTURE = os.path.join(DATA, "vision", "images", "tiny_5x3.png")


class Folders(Case):
    def copy(self, name="model"):
        return shutil.copytree(FOLDER, self.path(name))

    def logits(self, model, *words):
        ids = self.path("ids.i32", struct.pack("<40i", 2, *range(400, 439)))
        out = self.path("logits.f32")
        self.ok("logits", "-m", model, "--ids", ids, "--out", out, *words)
        with open(out, "rb") as file:
            return file.read()

    def test_the_same_bits_as_the_gguf_files_made_of_it(self):
        self.assertEqual(self.logits(FOLDER), self.logits(TINY))
        words = ("--image", PICTURE, "-p", "<start_of_image> what", "-n", "8", "--seed", "1")
        got, expected = (self.generate(*words, model=model) for model in (FOLDER, TINY))
        self.assertEqual((got["ids"], got["prompt_ids"]), (expected["ids"], expected["prompt_ids"]))

    def test_features_of_pictures_are_the_same_bits(self):
        features = []
        for model in (FOLDER, TINY):
            out = self.path("features.f32")
            self.ok("encode-image", "-m", model, "--image", PICTURE, "--out", out)
            with open(out, "rb") as file:
                features.append(file.read())
        self.assertEqual(*features)

    def test_inspect(self):
        got = json.loads(self.ok("inspect", FOLDER, "--json", "--tensors", "--metadata"))
        expected = json.loads(self.ok("inspect", TINY, "--json"))
        for name in ("architecture", "parameters", "layers", "global_layers", "vocabulary", "tokens", "weight_bytes"):
            self.assertEqual(got[name], expected[name], name)
        self.assertEqual((got["name"], got["vision_file"]), ("tiny-gemma3-hf", FOLDER))
        self.assertEqual(got["metadata"]["text_config.rope_scaling.factor"], "8.0")
        names = {tensor["name"]: tensor for tensor in got["tensors"]}
        self.assertIn("multi_modal_projector.mm_soft_emb_norm.weight", " ".join(names))
        parts = [json.loads(self.ok("inspect", part, "--json", "--tensors"))["tensors"] for part in (TINY, MMPROJ)]
        self.assertEqual(len(names), sum(map(len, parts)))
        small = json.loads(self.ok("inspect", FOLDER, "--json", "--weights", "q4_0"))
        self.assertLess(small["memory_bytes"], got["memory_bytes"])

    def test_weights_are_made_into_another_type(self):
        plain = self.logits(FOLDER)
        self.assertEqual(self.logits(FOLDER, "--weights", "bf16"), plain)
        rounded = {kind: self.logits(FOLDER, "--weights", kind) for kind in ("q8_0", "q4_0", "q6_k", "q4_k")}
        self.assertEqual(len({plain, *rounded.values()}), 4)  # 64 columns: q6_k is q8_0.
        self.assertEqual(rounded["q6_k"], rounded["q8_0"])
        for kind, got in rounded.items():
            self.assertEqual(self.logits(FOLDER, "--weights", kind, "-t", "1", "--chunk", "7"), got)
            self.assertEqual(self.logits(TINY, "--weights", kind), got)
        self.fails(2, "--weights", "logits", "-m", FOLDER, "--weights", "q9_9", "--ids", "x", "--out", "y")

    def test_a_folder_in_the_model_folder(self):
        home = self.path("home")
        os.mkdir(home)
        shutil.copytree(FOLDER, os.path.join(home, "gemma-3.tiny"))
        os.mkdir(os.path.join(home, "empty"))
        words = ("generate", "-p", "x", "-n", "2", "--temp", "0")
        env = {"LAPIDARY_HOME": home}
        self.assertEqual(self.ok(*words, env=env), self.ok(*words, "-m", "gemma-3.tiny", env=env))
        shutil.copy(TINY, os.path.join(home, "other.gguf"))
        self.fails(2, "gemma-3.tiny, other.gguf", *words, env=env)
        self.ok(*words, "-m", "gem", env=env)

    def test_no_output_is_written_over_a_file_of_it(self):
        folder = self.copy()
        shard = os.path.join(folder, "model-00001-of-00002.safetensors")
        ids = self.path("ids.i32", struct.pack("<2i", 2, 400))
        self.fails(2, "would be written over the model", "logits", "-m", folder, "--ids", ids, "--out", shard)

    def test_a_folder_that_is_none(self):
        self.fails(3, "has no config.json", "inspect", os.path.join(DATA, "vision"))
        self.fails(3, "has no config.json", "generate", "-m", DATA, "-p", "x", "-n", "1")

    def test_text_alone(self):
        folder = self.copy()
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config["text_config"], file)
        tensors = {}
        for name in sorted(os.listdir(folder)):
            if name.endswith(".safetensors"):
                tensors |= read_safetensors(os.path.join(folder, name))
                os.remove(os.path.join(folder, name))
        os.remove(os.path.join(folder, "model.safetensors.index.json"))
        text = {name.replace("language_model.", ""): value for name, value in tensors.items()
                if "vision" not in name and "projector" not in name}
        write_safetensors(os.path.join(folder, "model.safetensors"), text)
        self.assertEqual(self.logits(folder), self.logits(TINY))
        self.assertIsNone(json.loads(self.ok("inspect", folder, "--json"))["vision_file"])
        self.fails(2, "no vision file", "encode-image", "-m", folder, "--image", PICTURE)
        self.fails(3, "key vision_config is missing", "encode-image", "-m", folder, "--mmproj", folder, "--image", PICTURE)


@unittest.skipUnless(REAL_MODEL, "LAPIDARY_TEST_MODEL is not set")
class RealVocabulary(Case):
    """tokenizer.model and tokenizer.json give the ids of the golden data."""

    def check(self, write, name):
        folder = self.path("vocabulary")
        os.mkdir(folder)
        write(os.path.join(folder, name))
        golden = os.path.join(DATA, "tokenizer.jsonl")
        got = self.ok("tokenize", "-m", folder, "--jsonl", golden).splitlines()
        with open(golden, encoding="utf-8") as lines:
            expected = [json.loads(line) for line in lines]
        self.assertEqual(len(got), len(expected))
        for line, want in zip(got, expected):
            self.assertEqual(json.loads(line), want["ids"], want["text"])

    def test_of_sentencepiece(self):
        self.check(Vocabulary(REAL_MODEL).write_model, "tokenizer.model")

    def test_of_merges(self):
        self.check(Vocabulary(REAL_MODEL).write_json, "tokenizer.json")


if __name__ == "__main__":
    main()
