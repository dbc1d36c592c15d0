"""tools/ray_batch.py on a real Ray cluster of this machine, its actors and itself killed at random moments.

LAPIDARY_TEST_RAY names a Python that has Ray; else it is looked for where tools/test.sh --all puts it. RAY_KILLS is the
number of actors that are killed (4)."""

import glob
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import pictures
from harness import DATA, LAPIDARY, TINY, TIMEOUT, Case, main, settled

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lapidary")
PYTHON = os.environ.get("LAPIDARY_TEST_RAY") or next(iter(sorted(glob.glob(os.path.join(CACHE, "ray-*", "bin", "python")))), "")
RAY_BATCH = os.path.join(DATA, "..", "..", "tools", "ray_batch.py")
KILLS = int(os.environ.get("RAY_KILLS", "4"))

# Holds a cluster of this machine until its standard input ends.
CLUSTER = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""

# Stands for lapidary: whatever it is, it ends at once when it meets a line with POISON.
FRAGILE = f"""#!{sys.executable}
import os, signal, subprocess, sys
with subprocess.Popen([{LAPIDARY!r}, *sys.argv[1:]], stdin=subprocess.PIPE) as child:
    for line in sys.stdin.buffer:
        if b"POISON" in line:
            child.kill()
            os.kill(os.getpid(), signal.SIGKILL)
        child.stdin.write(line)
        child.stdin.flush()
    child.stdin.close()
sys.exit(child.returncode)
"""


def read(name):
    with open(name, "rb") as file:
        return file.read()


@unittest.skipUnless(os.path.isdir("/proc/self"), "looks for the processes of actors in /proc")
@unittest.skipUnless(PYTHON, "needs Ray: tools/test.sh --all installs it, LAPIDARY_TEST_RAY names a Python that has it")
class RayBatch(Case):
    @classmethod
    def setUpClass(cls):
        home = tempfile.mkdtemp(prefix="r")  # Short: the names of sockets are.
        cls.addClassCleanup(shutil.rmtree, home, ignore_errors=True)
        names = ("RAY_", "LAPIDARY_", "PYTHON")
        cls.ray_environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        cls.ray_environment.update(HOME=home, RAY_TMPDIR=home, RAY_USAGE_STATS_ENABLED="0")
        # Whoever may use the cluster may run anything here.
        cls.ray_environment.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        cls.cluster = subprocess.Popen(
            [PYTHON, "-c", CLUSTER], env=cls.ray_environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        cls.addClassCleanup(cls.cluster.wait)
        cls.addClassCleanup(cls.cluster.stdout.close)
        cls.addClassCleanup(cls.cluster.stdin.close)
        cls.address = cls.cluster.stdout.readline().decode().strip()

    def setUp(self):
        super().setUp()
        self.model = shutil.copy(TINY, self.path("model.gguf"))

    def requests(self, count, tokens=lambda i: 1 + i * 7 % 40):
        """With lines that are blank, broken, of several answers, with a seed, and in OpenAI's format."""
        lines = [json.dumps({"id": f"r{i}", "prompt": f"number {i % 9}", "max_tokens": tokens(i)}) for i in range(count)]
        lines[2] = "{broken"
        lines[4] = json.dumps({"id": 4.5, "prompt": "several", "n": 3, "max_tokens": 4})
        lines[7] = json.dumps({"id": "ü", "messages": [{"role": "user", "content": "seeded"}], "seed": 7, "max_tokens": 9})
        lines[8:8] = ["", " \r"]
        self.path("in.jsonl", b"\xef\xbb\xbf" + "\n".join(lines).encode())

    def command(self, *options, out="out.jsonl", address=True, lapidary=LAPIDARY):
        options = [*(["--address", self.address] if address else []), "--actors", "2", "--threads", "1", *options]
        return [PYTHON, RAY_BATCH, self.path("in.jsonl"), self.path(out), "-m", self.model, "--lapidary", lapidary, *options]

    def run_ray(self, *options, **more):
        return subprocess.run(self.command(*options, **more), env=self.ray_environment, capture_output=True, timeout=TIMEOUT)

    def begin(self, *options):
        process = subprocess.Popen(
            self.command(*options), env=self.ray_environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def whole(self, *options):
        """What one batch writes."""
        self.run_cli("batch", "-q", "-m", self.model, self.path("in.jsonl"), "-o", self.path("whole.jsonl"), "--seed", "0", *options)
        return self.content("whole.jsonl")

    def content(self, name="out.jsonl"):
        with open(self.path(name), "rb") as file:
            return settled(file.read())

    def workers(self):
        """The processes of lapidary that actors run here, each with that of its actor."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = read(f"/proc/{name}/cmdline").split(b"\0")
                if words[0] != LAPIDARY.encode() or self.model.encode() not in words:
                    continue
                parent = int(read(f"/proc/{name}/stat").rsplit(b")", 1)[1].split()[1])
                if read(f"/proc/{parent}/cmdline").startswith(b"ray::"):  # Else its actor is dead, and it soon.
                    found.append((int(name), parent))
            except OSError:
                continue
        return found

    def wait_for(self, process, condition):
        end = time.monotonic() + TIMEOUT
        while process.poll() is None and not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)

    def lines(self):
        return self.content().count(b"\n") if os.path.exists(self.path("out.jsonl")) else 0

    def test_an_actor_that_is_killed_costs_nothing(self):
        dice = random.Random(int(time.time()))
        self.requests(400, tokens=lambda i: 40 + i * 7 % 300)
        whole = self.whole()
        process = self.begin()
        killed = set()
        while len(killed) < KILLS and process.poll() is None:
            self.wait_for(process, lambda: set(self.workers()) - killed and self.lines() > len(killed))
            time.sleep(dice.uniform(0, 0.2))
            if alive := sorted(set(self.workers()) - killed):
                victim = dice.choice(alive)
                killed.add(victim)
                os.kill(victim[dice.randrange(2)], signal.SIGKILL)  # The process, or its actor.
        said = process.stderr.read().decode()
        self.assertEqual(process.wait(), 1, said)  # There is a broken line.
        self.assertEqual(self.content(), whole)
        match = re.search(r"400 lines in .* \(0 were there\), 1 failed, .* (\d+) lost\n", said)
        self.assertTrue(match, said)
        self.assertTrue(1 < int(match[1]) <= len(killed), said)  # The last kill may have come when all was done.

    def test_the_driver_may_be_killed(self):
        dice = random.Random(int(time.time()))
        self.requests(400, tokens=lambda i: 20 + i * 7 % 200)
        whole = self.whole()
        for _ in range(2):
            before = self.lines()
            process = self.begin()
            self.wait_for(process, lambda: self.lines() > before)
            time.sleep(dice.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            self.assertEqual(process.wait(), -signal.SIGKILL, process.stderr.read())
        with open(self.path("out.jsonl"), "rb") as file:
            there = file.read()
        count = there.count(b"\n")
        self.assertLess(0, count)
        self.assertLess(count, 400)
        self.path("out.jsonl", there + b'{"id":"r')  # As a kill may leave it.
        # What does not belong together is refused, as by batch.
        for options in (["--seed", "1"], ["--", "--temp", "0.5"]):
            done = self.run_ray(*options)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(b"use another file", done.stderr)
        done = self.run_ray()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(self.content(), whole)
        self.assertIn(f"{400 - count} lines".encode(), done.stderr)
        self.assertEqual(self.run_ray().returncode, 1)
        self.assertEqual(self.content(), whole)

    def test_a_line_that_kills_gets_an_error(self):
        self.requests(40)
        whole = self.whole().splitlines(True)
        with open(self.path("in.jsonl"), "rb") as file:
            lines = file.read()
        lines = lines.replace(b"number 5", b"POISON", 1).replace(b'"prompt": "seeded"', b'"prompt": "seeded"')
        custom = json.dumps({"custom_id": "last", "body": {"prompt": "POISON"}}).encode()
        self.path("in.jsonl", lines + b"\n" + custom)
        fragile = self.path("fragile", FRAGILE)
        os.chmod(fragile, 0o755)
        done = self.run_ray("--window", "8", "--parallel", "4", lapidary=fragile)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"3 failed", done.stderr)
        got = self.content().splitlines(True)
        self.assertEqual(len(got), 41)
        self.assertEqual(got[:5] + got[6:40], whole[:5] + whole[6:])
        message = "3 workers that had nothing else ended without an answer to it"
        error = {"code": "failed", "message": message, "line": 6, "digest": ""}
        self.assertEqual(json.loads(got[5]), {"id": "r5", "error": error})
        self.assertEqual(
            json.loads(got[40]),
            {"id": "batch_req_last", "custom_id": "last", "response": None, "error": {**error, "line": 43}},
        )
        # They are errors to batch, too.
        self.path("in.jsonl", (lines + b"\n" + custom).replace(b"{broken", b'{"prompt": "whole", "max_tokens": 1}'))
        self.ok("batch", "-q", "-m", self.model, self.path("in.jsonl"), "-o", self.path("out.jsonl"), "--retry-failed", "-n", "3")

    def test_pictures_on_a_cluster_of_its_own(self):
        for name in ("a.png", "mmproj-model.gguf"):
            shutil.copy(pictures.SMALL if name == "a.png" else pictures.MMPROJ, self.path(name))
        lines = [{"id": i, "prompt": "What?", "images": ["a.png"], "max_tokens": 3 + i} for i in range(3)]
        self.path("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        whole = self.whole()
        self.assertNotIn(b"error", whole)
        done = self.run_ray(address=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content(), whole)

    def test_what_lapidary_refuses_ends_it(self):
        self.requests(12)
        for options, code, words in [
            (["-m", self.path("nowhere.gguf")], 3, b"nowhere.gguf"),
            (["--lapidary", self.path("nothing")], 3, b"nothing"),
            (["--", "--temperature", "1"], 2, b"no option --temperature; did you mean --temp?"),
            (["--actors", "0"], 2, b"--actors"),
        ]:
            with self.subTest(options=options):
                done = self.run_ray(*options)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)
        os.rename(self.path("in.jsonl"), self.path("elsewhere.jsonl"))
        os.remove(self.path("out.jsonl"))
        self.assertEqual(self.run_ray().returncode, 3)
        self.assertFalse(os.path.exists(self.path("out.jsonl")))
        os.rename(self.path("elsewhere.jsonl"), self.path("in.jsonl"))
        self.path("out.jsonl", "a letter to my aunt\n")
        done = self.run_ray()
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"left as it is", done.stderr)
        self.assertEqual(self.content(), b"a letter to my aunt\n")


if __name__ == "__main__":
    main()
