"""Batches that are stopped at any moment, with 16 answers under way, and what they take of memory.

BATCH_KILLS is the number of moments (10), BATCH_LINES that of lines for the memory (20000)."""

import json
import os
import random
import signal
import subprocess
import time
import unittest

from harness import LAPIDARY, TINY, Case, main, settled

KILLS = int(os.environ.get("BATCH_KILLS", "10"))
LINES = int(os.environ.get("BATCH_LINES", "20000"))


class Stopped(Case):
    def command(self, order, out):
        return ["batch", "-q", "-m", TINY, self.path("in.jsonl"), "-o", self.path(out), "--order", order, "--parallel", "16"]

    def lines(self, order, name):
        """Those of a file; sorted where their order is not told."""
        with open(self.path(name), "rb") as file:
            lines = settled(file.read()).splitlines(True)
        return sorted(lines) if order == "done" else lines

    def requests(self, count, **more):
        self.path(
            "in.jsonl",
            "".join(
                json.dumps({"id": i, "prompt": f"number {i % 9}", "max_tokens": 1 + i * 7 % 40, **more}) + "\n"
                for i in range(count)
            ),
        )

    def whole(self, order):
        """The lines of a run that nothing stops, and the seconds that it takes."""
        start = time.monotonic()
        self.ok(*self.command(order, "whole.jsonl"), "--seed", "1")
        return self.lines(order, "whole.jsonl"), time.monotonic() - start

    def stop(self, order, number, seconds=0, size=0):
        """Sends a signal after so much time and once so many bytes are written; the exit code, and how long that took."""
        process = self.start(*self.command(order, "out.jsonl"), "--seed", "1")
        time.sleep(seconds)
        out = self.path("out.jsonl")
        while process.poll() is None and size > 0 and not (os.path.exists(out) and os.path.getsize(out) >= size):
            time.sleep(0.001)
        process.send_signal(number)
        start = time.monotonic()
        code = process.wait(60)
        process.stdout.close()
        process.stderr.close()
        return code, time.monotonic() - start

    def kill_at_any_moment(self, order):
        """Each time once, twice or three times, then the same command to the end."""
        dice = random.Random(1)
        self.requests(48)
        whole, seconds = self.whole(order)
        stopped = 0
        for moment in range(KILLS):
            for _ in range(dice.randint(1, 3)):
                stopped += self.stop(order, signal.SIGKILL, dice.uniform(0, seconds))[0] == -signal.SIGKILL
            with self.subTest(moment=moment):
                self.ok(*self.command(order, "out.jsonl"), "--seed", "1")
                self.assertEqual(self.lines(order, "out.jsonl"), whole)
            os.remove(self.path("out.jsonl"))
        self.assertGreater(stopped, 0)

    def test_kills_in_order(self):
        self.kill_at_any_moment("input")

    def test_kills_as_done(self):
        self.kill_at_any_moment("done")

    def test_signals_stop_it_within_five_seconds(self):
        self.requests(60)
        for order in ("input", "done"):
            whole, _ = self.whole(order)
            for number, wanted in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)):
                with self.subTest(order=order, number=number):
                    code, took = self.stop(order, number, size=900)
                    self.assertEqual(code, wanted)
                    self.assertLess(took, 5)
                    self.ok(*self.command(order, "out.jsonl"), "--seed", "1")
                    self.assertEqual(self.lines(order, "out.jsonl"), whole)
                    os.remove(self.path("out.jsonl"))
            os.remove(self.path("whole.jsonl"))

    def test_a_reader_that_takes_nothing_does_not_hold_it(self):
        self.requests(4000, top_p=2)  # Errors, more than a pipe takes.
        command = [*self.command("input", "out.jsonl")[:5], "-o", "-"]
        process = self.start(*command)
        time.sleep(1)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(5), 130)


@unittest.skipIf("asan" in LAPIDARY, "sanitizers take memory of their own")
class Memory(Case):
    def most(self, count, order, **more):
        """KiB that a batch of `count` lines takes at most, and then one that finds them answered."""
        name = self.path("in.jsonl")
        with open(name, "w") as file:
            for i in range(count):
                file.write(json.dumps({"id": f"r{i}", "prompt": f"number {i}", "max_tokens": 3, **more}) + "\n")
        taken = []
        for _ in range(2):
            process = subprocess.Popen(
                [LAPIDARY, "batch", "-q", "-m", TINY, name, "-o", self.path("out.jsonl"), "--order", order],
                env=self.environment,
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 1 if more else 0)
            taken.append(used.ru_maxrss)
        with open(self.path("out.jsonl"), "rb") as file:
            self.assertEqual(sum(1 for _ in file), count)
        os.remove(self.path("out.jsonl"))
        return taken

    def test_it_does_not_grow_with_the_lines(self):
        for order in ("input", "done"):
            few, many = self.most(LINES // 10, order), self.most(LINES, order)
            for less, more in zip(few, many):
                self.assertLess(more, less * 1.05 + 200, (order, few, many))

    def test_nor_with_lines_that_are_answered_at_once(self):
        few, many = (self.most(count, "input", top_p=2) for count in (LINES // 10, LINES))
        for less, more in zip(few, many):
            self.assertLess(more, less * 1.05 + 200, (few, many))


if __name__ == "__main__":
    main()
