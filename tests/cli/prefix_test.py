"""Prefixes on disk: processes that share a folder, one after the other and at once, some of them killed."""

import json
import os
import random
import signal
import subprocess
import time

from harness import LAPIDARY, TINY, Case, main, settled


class Prefixes(Case):
    def setUp(self):
        super().setUp()
        self.cache = self.path("cache")
        words = random.Random(1)
        self.document = " ".join(str(words.randrange(1000)) for _ in range(500))

    def ask(self, question, *options, cache=True):
        options = [*options, "--prefix-cache", self.cache] if cache else options
        return self.generate("-p", f"{self.document}\n{question}", "-n", "5", "--seed", "2", *options)

    def files(self):
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.cache) for name in names]


class Generate(Prefixes):
    def test_questions_about_one_document(self):
        for number, question in enumerate(["Who?", "When was that?", "Who?"]):
            with_cache, without = self.ask(question), self.ask(question, cache=False)
            self.assertEqual(with_cache["ids"], without["ids"])
            self.assertEqual(with_cache["prompt_ids"], without["prompt_ids"])
            self.assertEqual(without["usage"]["cached_tokens"], 0)
            behind = with_cache["usage"]["prompt_tokens"] - with_cache["usage"]["cached_tokens"]
            self.assertTrue(behind <= 256 if number else with_cache["usage"]["cached_tokens"] == 0, with_cache["usage"])
        self.assertEqual(behind, 1)
        self.assertEqual(self.ask("Who?", "--kv", "int8")["usage"]["cached_tokens"], 0)

    def test_the_environment_and_the_size(self):
        variables = {"LAPIDARY_PREFIX_CACHE": self.cache, "LAPIDARY_PREFIX_CACHE_SIZE": "1K"}
        self.generate("-p", self.document, "-n", "1", env=variables)
        self.assertEqual(self.files(), [])
        self.generate("-p", self.document, "-n", "1", env={**variables, "LAPIDARY_PREFIX_CACHE_SIZE": "1G"})
        self.assertNotEqual(self.files(), [])
        self.fails(2, "--prefix-cache-size", "generate", "-m", TINY, "x", "--prefix-cache-size", "lots")

    def test_a_folder_that_cannot_be_used_is_a_warning(self):
        os.mkdir(self.path("open"))
        os.chmod(self.path("open"), 0o777)
        for folder, said in [
            (self.path("file", "x"), "Not a directory"),
            (self.path("open"), "other users can write to the folder"),
        ]:
            command = ["generate", "-m", TINY, "hello", "-n", "3", "--seed", "1"]
            without = self.run_cli(*command)
            done = self.run_cli(*command, "--prefix-cache", folder)
            self.assertEqual((done.returncode, done.stdout), (0, without.stdout))
            warnings = [line for line in done.stderr.decode().splitlines() if "warning" in line]
            self.assertEqual(warnings, [f"lapidary: warning: prefix cache: {folder}: {said}"])
            self.assertNotIn(b"warning", self.run_cli(*command, "-q", "--prefix-cache", folder).stderr)

    def test_chat(self):
        said = [self.run_cli("chat", "-q", "-m", TINY, "-n", "4", "--seed", "3", *more, input=f"{self.document}\nand?\n")
                for more in ([], ["--prefix-cache", self.cache], ["--prefix-cache", self.cache])]
        self.assertEqual([done.returncode for done in said], [0, 0, 0])
        self.assertEqual(said[0].stdout, said[1].stdout)
        self.assertEqual(said[0].stdout, said[2].stdout)
        self.assertNotEqual(self.files(), [])


class Batch(Prefixes):
    def setUp(self):
        super().setUp()
        lines = []
        for i in range(24):
            document = [self.document, self.document[:900], ""][i % 3]
            lines.append({"id": f"r{i}", "prompt": f"{document} question {i * i % 7}", "max_tokens": 1 + i % 5, "seed": i})
        self.requests = self.path("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def command(self, out, *options):
        return ["batch", "-q", "-m", TINY, self.requests, "-o", self.path(out), *options]

    def cached(self, *options):
        return [*options, "--prefix-cache", self.cache]

    def raw(self, out):
        with open(self.path(out), "rb") as file:
            return file.read().splitlines(True)

    def lines(self, out):
        return settled(b"".join(self.raw(out)))

    def test_cold_and_warm(self):
        self.ok(*self.command("off"))
        for out in ("cold", "warm"):
            for order in ("input", "done"):
                self.ok(*self.command(out + order, *self.cached("--order", order, "--seed", "0")))
            self.assertEqual(self.lines(out + "input"), self.lines("off"))
        usage = [json.loads(line)["usage"] for line in self.raw("warminput")]
        self.assertGreater(sum(u["cached_tokens"] for u in usage), sum(u["prompt_tokens"] for u in usage) * 3 // 4)
        texts = {a["id"]: a["text"] for a in map(json.loads, self.lines("off").splitlines())}
        self.assertEqual({a["id"]: a["text"] for a in map(json.loads, self.lines("warmdone").splitlines())}, texts)

    def test_two_at_once_of_which_one_is_killed(self):
        """LAPIDARY_TEST_KILLS says how often; ten times else."""
        self.ok(*self.command("off"))
        wanted, moments = self.lines("off"), random.Random(4)
        for turn in range(int(os.environ.get("LAPIDARY_TEST_KILLS", "10"))):
            with self.subTest(turn=turn):
                for file in self.files() if turn % 3 == 0 else []:
                    os.remove(file)
                names = [f"{turn}killed", f"{turn}other"]
                both = [subprocess.Popen([LAPIDARY, *self.command(name, *self.cached())], env=self.environment)
                        for name in names]
                time.sleep(moments.uniform(0.01, 0.6))
                both[0].send_signal(signal.SIGKILL)
                both[0].wait()
                self.assertEqual(both[1].wait(), 0)
                self.assertEqual(self.lines(names[1]), wanted)
                self.ok(*self.command(names[0], *self.cached()))
                self.assertEqual(self.lines(names[0]), wanted)


if __name__ == "__main__":
    main()
