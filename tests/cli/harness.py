"""What the tests of the command line share. Each is run as: X_test.py LAPIDARY DATA_FOLDER [UNITTEST_OPTIONS]."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LAPIDARY, DATA = map(os.path.abspath, sys.argv[1:3])
REAL_MODEL = os.environ.get("LAPIDARY_TEST_MODEL", "")
TINY = os.path.join(DATA, "tiny-gemma3-text-bf16.gguf")
TIMEOUT = int(os.environ.get("TEST_TIMEOUT", "900"))  # Sanitized builds take half a minute for a picture and minutes for a long prompt.

# No setting of the caller's reaches the program under test.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("LAPIDARY_", "XDG_"))}
# On a machine that is busy with other tests two threads wait for each other more than they work.
ENVIRONMENT["LAPIDARY_THREADS"] = "1"


def settled(answers):
    """Lines of answers without what differs from run to run: what was there already of a prompt."""
    return re.sub(rb'("cached_tokens": ?)\d+', rb"\g<1>0", answers)


class Case(unittest.TestCase):
    """A test with a temporary folder that is also its home."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.environment = dict(ENVIRONMENT, HOME=self.folder, TERM="xterm")

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def run_cli(self, *arguments, input=b"", env=None):
        if isinstance(input, str):
            input = input.encode()
        return subprocess.run(
            [LAPIDARY, *map(str, arguments)],
            input=input,
            capture_output=True,
            timeout=TIMEOUT,
            env={**self.environment, **(env or {})},
        )

    def ok(self, *arguments, input=b"", env=None):
        """Standard output of a run that succeeds."""
        done = self.run_cli(*arguments, input=input, env=env)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def generate(self, *arguments, model=TINY, **more):
        """The JSON object of `generate`."""
        return json.loads(self.ok("generate", "-q", "-m", model, "--json", *arguments, **more))

    def fails(self, code, words, *arguments, input=b"", env=None):
        """A run that ends with `code`, nothing on standard output and one line on standard error that has `words`; returns
        that line."""
        done = self.run_cli(*arguments, input=input, env=env)
        error = done.stderr.decode()
        self.assertEqual(done.returncode, code, error)
        self.assertEqual(done.stdout, b"")
        self.assertTrue(
            error.startswith("lapidary: ") and error.count("\n") == 1 and error.endswith("\n"),
            error,
        )
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, error)
        return error

    def start(self, *arguments, stdin=subprocess.DEVNULL, **more):
        process = subprocess.Popen(
            [LAPIDARY, *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            **more,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def endless(self):
        """Options under which the tiny model draws for a long time: a seed that meets no stop id for 600 tokens."""
        for seed in range(50):
            options = ["-p", "hello", "--no-chat", "--top-k", "3", "--seed", str(seed)]
            if self.generate(*options, "-n", "600")["finish_reason"] == "length":
                return options
        self.fail("every one of 50 seeds meets a stop id within 600 tokens")


class Terminal:
    """The program on a pseudo-terminal, standard error included."""

    def __init__(self, case, *arguments):
        self.case = case
        self.text = ""
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.execve(LAPIDARY, [LAPIDARY, *map(str, arguments)], case.environment)
        self.code = None
        case.addCleanup(self.close)

    def close(self):
        if self.code is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self.file)

    def read(self, seconds):
        ready, _, _ = select.select([self.file], [], [], seconds)
        if not ready:
            return False
        try:
            got = os.read(self.file, 65536)
        except OSError:  # Linux: the other end is closed.
            got = b""
        self.text += got.decode(errors="replace")
        return bool(got)

    def expect(self, words, seconds=TIMEOUT):
        """Waits for `words`, takes everything up to them out of the text, and returns it."""
        end = time.monotonic() + seconds
        while words not in self.text:
            more = self.read(max(0, end - time.monotonic()))
            if words not in self.text and not more:
                self.case.fail(f"expected {words!r}, got {self.text!r}")
        before, _, self.text = self.text.partition(words)
        return before

    def send(self, text):
        os.write(self.file, text.encode())

    def finish(self):
        """The exit code; what was printed last is in self.text."""
        end = time.monotonic() + TIMEOUT
        while self.read(max(0, end - time.monotonic())):
            pass
        if time.monotonic() >= end:
            self.case.fail(f"expected an end, got {self.text!r}")
        _, status = os.waitpid(self.process, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
