"""What a batch says while it runs: to a terminal and to a file."""

import json
import os
import re
import subprocess
import time

from harness import TINY, Case, Terminal, main


class Progress(Case):
    def test_a_line_now_and_then_where_there_is_no_terminal(self):
        request = json.dumps({"prompt": "x", "max_tokens": 1}).encode() + b"\n"
        process = self.start("batch", "-m", TINY, "-", "-o", "-", stdin=subprocess.PIPE)
        start = time.monotonic()
        process.stdin.write(request * 20)
        process.stdin.flush()
        for _ in range(20):
            process.stdout.readline()
        time.sleep(10.2 - (time.monotonic() - start))
        process.stdin.write(request)
        process.stdin.close()
        error = process.stderr.read().decode()
        self.assertEqual(process.wait(), 0)
        self.assertRegex(error, r"^batch: 21 lines in 1\d s, \d\.\d\d a second\n21 lines in ")

    def test_a_resumed_batch_shows_its_own_work(self):
        bad = {"prompt": "x" * 2_000_000, "top_p": 2}  # Answered at once.
        seed = int(self.endless()[-1])
        good = {"prompt": "hello", "max_tokens": 600, "top_k": 3, "seed": seed}
        good["stop"] = "y" * 20_000  # As many bytes a line as the bar can tell.
        self.path("in.jsonl", "".join(json.dumps(r) + "\n" for r in [bad] * 5))
        command = ["batch", "-m", TINY, "--no-chat", self.path("in.jsonl"), "-o", self.path("out.jsonl")]
        self.assertEqual(self.run_cli(*command).returncode, 1)
        lines = [bad] * 5 + [good] * 60
        self.path("in.jsonl", "".join(json.dumps(r) + "\n" for r in lines))
        terminal = Terminal(self, *command)
        terminal.expect("batch [")
        shown = terminal.expect("%")
        self.assertEqual(terminal.finish(), 1)
        self.assertLess(int(re.search(r"(\d+) $", shown)[1]), 80, shown)

    def test_a_bar_tells_lines_speed_and_what_is_left(self):
        seed = int(self.endless()[-1])
        good = {"prompt": "hello", "max_tokens": 300, "top_k": 3, "seed": seed}
        command = ["batch", "-m", TINY, "--no-chat", "--parallel", "1", self.path("in.jsonl"), "-o", self.path("out.jsonl")]
        # As many lines as take some seconds, however fast this machine is.
        start, count = time.monotonic(), 8
        self.ok(*command[:-1], "-", input=self.path("in.jsonl", (json.dumps(good) + "\n") * count))
        count = max(count, int(count * 3 / (time.monotonic() - start)))
        self.path("in.jsonl", (json.dumps(good) + "\n") * count)
        terminal = Terminal(self, *command)
        terminal.expect("batch [")
        shown = "batch [" + terminal.expect(" s left")
        self.assertEqual(terminal.finish(), 0)
        self.assertRegex(shown + terminal.text, r"batch \[#*\.*\] +\d+ %, \d+ lines?, \d+\.\d t/s, \d+ s left")
        self.assertRegex(terminal.text, rf"\r\x1b\[K{count} lines in ")
        # Of a pipe nobody knows how long it is.
        with open(self.path("in.jsonl"), "rb") as file:
            lines = file.read()
        os.mkfifo(self.path("pipe"))
        terminal = Terminal(self, *(self.path("pipe") if word == self.path("in.jsonl") else word for word in command[:-1]),
                            self.path("other.jsonl"))
        with open(self.path("pipe"), "wb") as pipe:
            pipe.write(lines)
        terminal.expect("batch: ")
        self.assertEqual(terminal.finish(), 0)
        self.assertRegex(terminal.text, r"\d+ lines?, \d+\.\d t/s")


if __name__ == "__main__":
    main()
