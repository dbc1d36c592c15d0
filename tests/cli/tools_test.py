"""tokenize, logits, perplexity, inspect and bench."""

import json
import math
import os
import struct
import unittest

from harness import DATA, REAL_MODEL, TINY, Case, main


class Tokenize(Case):
    def test_round_trip(self):
        text = "Grüße, 世界! \U0001f48e\n\ttwo  spaces \x01"
        ids = self.ok("tokenize", "-m", TINY, text)
        self.assertEqual(ids, self.ok("tokenize", "-m", TINY, input=text))
        self.assertEqual(self.ok("tokenize", "-m", TINY, "--decode", ids), text)
        self.assertEqual(
            self.ok("tokenize", "-m", TINY, "--decode", input=ids.strip("[]\n").replace(",", " ")),
            text,
        )

    def test_control_tokens(self):
        self.assertNotIn(105, json.loads(self.ok("tokenize", "-m", TINY, "<start_of_turn>")))
        self.assertEqual(
            json.loads(self.ok("tokenize", "-m", TINY, "--parse-control", "<start_of_turn>")), [105]
        )

    def test_empty(self):
        self.assertEqual(self.ok("tokenize", "-m", TINY, ""), "[]\n")
        self.assertEqual(self.ok("tokenize", "-m", TINY), "[]\n")

    def test_jsonl(self):
        lines = self.path(
            "t.jsonl", '{"text": "hello"}\n{"more": 1, "text": ""}\n{"text": "caf\\u00e9"}\n'
        )
        got = self.ok("tokenize", "-m", TINY, "--jsonl", lines).splitlines()
        self.assertEqual(
            got, [self.ok("tokenize", "-m", TINY, text).strip() for text in ("hello", "", "café")]
        )

    def test_bad_lines(self):
        for bad in ("{", "[]", '{"txt": "x"}', '{"text": 5}'):
            done = self.run_cli(
                "tokenize",
                "-m",
                TINY,
                "--jsonl",
                self.path("t.jsonl", '{"text": "x"}\n' + bad + "\n"),
            )
            self.assertEqual(done.returncode, 3)
            self.assertEqual(done.stdout.count(b"\n"), 1)
            self.assertIn(b"t.jsonl line 2", done.stderr)

    def test_many_ids(self):
        ids = "[" + "300," * 1_100_000 + "300]"
        piece = self.ok("tokenize", "-m", TINY, "--decode", "[300]")
        self.assertEqual(self.ok("tokenize", "-m", TINY, "--decode", input=ids), piece * 1_100_001)

    def test_bad_ids(self):
        for bad in ("[1763]", "[-1]", "[1.5]", "five", '{"a": 1}', "[99999999999]"):
            self.fails(2, [], "tokenize", "-m", TINY, "--decode", bad)

    @unittest.skipUnless(REAL_MODEL, "needs the real model")
    def test_golden(self):
        path = os.path.join(DATA, "tokenizer.jsonl")
        with open(path) as file:
            cases = [json.loads(line) for line in file]
        for flags, key in ([], "ids"), (["--parse-control"], "ids_with_control_tokens"):
            got = self.ok("tokenize", "-m", REAL_MODEL, "--jsonl", path, *flags).splitlines()
            self.assertEqual([json.loads(line) for line in got], [case[key] for case in cases])


class Logits(Case):
    def logits(self, ids, *options):
        self.ok(
            "logits",
            "-q",
            "-m",
            TINY,
            "--ids",
            self.path("ids", struct.pack(f"<{len(ids)}i", *ids)),
            "--out",
            self.path("out"),
            *options,
        )
        with open(self.path("out"), "rb") as file:
            return file.read()

    def test_rows_and_schedules(self):
        ids = [2] + [(7 * i) % 1700 + 10 for i in range(200)]
        whole = self.logits(ids)
        self.assertEqual(len(whole), len(ids) * 1763 * 4)
        self.assertTrue(all(math.isfinite(x) for x in struct.unpack("<1763f", whole[-1763 * 4 :])))
        self.assertEqual(self.logits(ids, "--chunk", "7", "-t", "1"), whole)
        self.assertEqual(self.logits(ids[:90], "--chunk", "90"), whole[: 90 * 1763 * 4])


class Perplexity(Case):
    def test_as_llama_cpp_counts_it(self):
        text = "The quick brown fox jumps over the lazy dog. " * 30
        path = self.path("text.txt", text)
        ids = [2] + json.loads(self.ok("tokenize", "-m", TINY, text))
        chunk = 64
        got = json.loads(self.ok("perplexity", "-q", "-m", TINY, "-f", path, "-c", chunk, "--json"))
        self.assertEqual(got["chunks"], len(ids) // chunk)
        self.assertEqual(got["scored_tokens"], got["chunks"] * (chunk - 1 - chunk // 2))
        total = 0
        for start in range(0, got["chunks"] * chunk, chunk):
            part = [2] + ids[start + 1 : start + chunk]
            self.ok(
                "logits",
                "-q",
                "-m",
                TINY,
                "--ids",
                self.path("ids", struct.pack(f"<{chunk}i", *part)),
                "--out",
                self.path("out"),
            )
            with open(self.path("out"), "rb") as file:
                rows = list(struct.iter_unpack("<1763f", file.read()))
            for position in range(chunk // 2, chunk - 1):
                row = rows[position]
                total += math.log(sum(math.exp(x) for x in row)) - row[part[position + 1]]
        self.assertAlmostEqual(
            got["perplexity"],
            math.exp(total / got["scored_tokens"]),
            delta=1e-3 * got["perplexity"],
        )
        self.assertRegex(
            self.ok("perplexity", "-m", TINY, "-f", path, "-c", chunk),
            r"^PPL = \d+\.\d+ \+/- \d+\.\d+",
        )

    def test_short_text(self):
        self.fails(
            2,
            ["short.txt", "512"],
            "perplexity",
            "-m",
            TINY,
            "-f",
            self.path("short.txt", "too short"),
        )
        self.fails(2, "--file", "perplexity", "-m", TINY)


class Inspect(Case):
    def test_json(self):
        got = json.loads(self.ok("inspect", TINY, "--json", "--context", "1000"))
        self.assertEqual(
            (got["architecture"], got["layers"], got["width"], got["vocabulary"]),
            ("gemma3", 8, 64, 1763),
        )
        self.assertEqual(
            (got["sliding_window"], got["global_layers"], got["context"]), (64, 1, 1000)
        )
        self.assertEqual(got["file_bytes"], os.path.getsize(TINY))
        # 8 layers of keys and values in bf16, 2 heads of 32.
        self.assertGreaterEqual(got["kv_bytes_global_only"], 1000 * 8 * 2 * 2 * 32 * 2)
        self.assertLess(got["kv_bytes"], got["kv_bytes_global_only"])
        self.assertEqual(sum(t["tensors"] for t in got["types"]), 106)

    def test_keys_and_values_in_int8(self):
        wide, small = (
            json.loads(self.ok("inspect", TINY, "--json", "--context", "4000", "--kv", kv)) for kv in ("bf16", "int8")
        )
        for sum_of in "kv_bytes", "kv_bytes_global_only":
            self.assertEqual(small[sum_of] * 64, wide[sum_of] * 35)
        self.assertEqual(
            wide["memory_bytes"] - small["memory_bytes"], wide["kv_bytes"] - small["kv_bytes"]
        )
        self.fails(2, "--kv", "inspect", TINY, "--kv", "int4")

    def test_table(self):
        text = self.ok("inspect", TINY, "--context", "1000")
        for word in ("gemma3", "BF16", "1763", "1000 tokens", "all layers global"):
            self.assertIn(word, text)


class Bench(Case):
    def bench(self, *options):
        out = self.ok(
            "bench",
            "-m",
            TINY,
            "--prefill",
            "96",
            "--decode",
            "6",
            "--rounds",
            "1",
            "--json",
            *options,
        )
        return [json.loads(line) for line in out.splitlines()]

    def test_json(self):
        prefill, decode = self.bench("--depth", "10")
        self.assertEqual((prefill["test"], decode["test"]), ("prefill", "decode"))
        for line in prefill, decode:
            self.assertGreater(line["tokens_per_second"], 0)
            self.assertGreater(line["gigabytes_per_second"], 0)
            self.assertGreater(line["bandwidth_share"], 0)
            self.assertGreater(line["peak_share"], 0)
            self.assertEqual((line["depth"], line["rounds"], line["head"]), (10, 1, "full"))

    def test_hash_tells_of_the_logits_only(self):
        first = [line["logits_hash"] for line in self.bench("-t", "1")]
        self.assertEqual(
            first, [line["logits_hash"] for line in self.bench("-t", "2", "--chunk", "5")]
        )
        self.assertNotEqual(first, [line["logits_hash"] for line in self.bench("--depth", "3")])

    def test_kv(self):
        hashes = {}
        for kv in "bf16", "int8":
            lines = self.bench("--kv", kv, "--depth", "100")
            self.assertEqual([line["kv"] for line in lines], [kv, kv])
            hashes[kv] = [line["logits_hash"] for line in lines]
            self.assertEqual(
                hashes[kv], [line["logits_hash"] for line in self.bench("--kv", kv, "--depth", "100", "-t", "3")]
            )
        self.assertNotEqual(hashes["bf16"], hashes["int8"])

    def test_fill(self):
        computed, made = (self.bench("--depth", "300", *fill) for fill in ((), ("--fill",)))
        self.assertEqual([line["filled"] for line in computed + made], [False, False, True, True])
        self.assertNotEqual(computed[0]["logits_hash"], made[0]["logits_hash"])
        self.assertEqual(
            made[1]["logits_hash"], self.bench("--depth", "300", "--fill", "-t", "1")[1]["logits_hash"]
        )

    def test_sequences_together_have_the_logits_of_one(self):
        _, decode, _, together = self.bench("--sequences", "3", "--depth", "10")
        self.assertEqual((together["test"], together["sequences"]), ("together", 3))
        self.assertGreater(together["tokens_per_second"], 0)
        self.assertEqual(together["logits_hash"], decode["logits_hash"])
        self.fails(2, "--sequences", "bench", "-m", TINY, "--sequences", "65")

    def test_one_test_alone(self):
        (line,) = [
            json.loads(line)
            for line in self.ok(
                "bench", "-m", TINY, "--prefill", "0", "--decode", "4", "--rounds", "2", "--json"
            ).splitlines()
        ]
        self.assertEqual(line["test"], "decode")


if __name__ == "__main__":
    main()
