#!/usr/bin/env python3
"""Answers a file of requests on a Ray cluster: ray_batch.py -m MODEL IN OUT [-- OPTIONS OF lapidary batch].

Each actor runs one `lapidary batch`, which loads the model once; lines are dealt out as actors have room. OUT is, byte
for byte, what `lapidary batch IN -o OUT --seed 0` writes (but for cached_tokens), in the order of IN, whole lines only.
Run the same command again and it goes on, whatever stopped it. The lines of an actor that dies are given to others; a
line of which three died gets an error as its answer. Every machine needs Ray, lapidary, the model and the pictures, at
the same paths; requests and answers are read and written here alone.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import fcntl
import heapq
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, BinaryIO, Iterator, Optional

import ray

MOST_DEATHS = 3
MOST_LINE_BYTES = (64 << 20) + 1  # lapidary refuses a line that has so many; the rest of it need not travel.
STORE_BYTES = 100 << 20  # Of Ray's object store on this machine: lines are small.

# Answers, and, of a process that has ended, its exit code and what it said last.
Result = tuple[list[bytes], Optional[tuple[int, str]]]


class Failure(Exception):
    """One line for the user, and the exit code."""


@dataclasses.dataclass(order=True)
class Line:
    """A request."""

    place: int  # Among all requests, from 0.
    number: int  # Of the line in its file, from 1.
    text: bytes  # Without its line end.
    shared: int = 0  # Deaths of actors that had it among others,
    alone: int = 0  # and of those that had nothing else.

    def suspect(self) -> bool:
        """Whether it goes alone, since it may be what kills: no other line is blamed with it then."""
        return self.shared > 1 or self.alone > 0

    def dealt(self) -> bytes:
        """As `lapidary batch --numbered` takes it."""
        return b"%d %d\n%s\n" % (self.number, self.place, self.text)

    def error(self) -> bytes:
        """The answer to a line that kills, in the format of the request."""
        try:
            request = json.loads(self.text)
        except (ValueError, RecursionError):
            request = None
        request = request if isinstance(request, dict) else {}
        custom = request.get("custom_id")
        answer = {"id": request.get("id") if custom is None else f"batch_req_{custom}"}
        if custom is not None:
            answer |= {"custom_id": custom, "response": None}
        message = f"{self.alone} workers that had nothing else ended without an answer to it"
        answer["error"] = {"code": "failed", "message": message, "line": self.number, "digest": ""}
        return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def is_error(answer: bytes) -> bool:
    """Inside of a text the quotation marks would be escaped."""
    return b'"error":{"code":' in answer


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The requests of a file; blank lines are none, nor is a byte order mark."""
    place = number = 0
    while text := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        rest = text
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES)
        if (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip(b" \t\r\n") or len(text) > MOST_LINE_BYTES:
            yield Line(place, number, text.removesuffix(b"\n"))
            place += 1


class Worker:
    """An actor: one `lapidary batch` on the machine where Ray has put it."""

    def start(self, command: list[str], folder: str) -> Result:
        """Returns once the model is loaded: a line that is no request is then answered at once."""
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._due = 0  # Answers.
        self._errors = tempfile.TemporaryFile()
        os.environ.pop("LAPIDARY_SHARD", None)  # Its lines are dealt out.
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                             cwd=folder if os.path.isdir(folder) else "/")
        except OSError as error:
            return [], (3, str(error))
        threading.Thread(target=self._read, daemon=True).start()
        return [], self.exchange([b"1 0\n\n"])[1]

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def exchange(self, lines: list[bytes]) -> Result:
        """Takes lines on and returns answers, in the order of the lines: at least one, where any is due."""
        with contextlib.suppress(BrokenPipeError):  # The end shows below.
            self._process.stdin.write(b"".join(lines))
            self._process.stdin.flush()
        self._due += len(lines)
        answers: list[bytes] = []
        while (self._due and not answers) or not self._answers.empty():
            answer = self._answers.get()
            if not answer.endswith(b"\n"):  # Cut, or the end.
                code = self._process.wait()
                self._errors.seek(0)
                said = self._errors.read().decode(errors="replace").splitlines()
                return answers, (code, said[-1] if said else f"lapidary ended with {code}")
            answers.append(answer)
            self._due -= 1
        return answers, None


@dataclasses.dataclass(eq=False)
class Actor:
    """An actor as the driver sees it."""

    handle: Any
    call: Any  # Under way; None: idle.
    started: bool = False
    lines: collections.deque[Line] = dataclasses.field(default_factory=collections.deque)  # Dealt and not answered.


class Driver:
    """Deals lines to actors and writes their answers in the order of the lines."""

    def __init__(self, options: argparse.Namespace, command: list[str], lines: Iterator[Line], first: int, out: int) -> None:
        self._worker = ray.remote(num_cpus=options.threads)(Worker)
        self._command, self._folder = command, options.folder
        self._window, self._lines, self._out = options.window, lines, out
        self._actors = [self._start() for _ in range(options.actors)]
        self._again: list[Line] = []  # A heap.
        self._answers: dict[int, bytes] = {}  # By place, until those in front of them are there.
        self._most_ahead = 16 * options.actors * options.window  # Lines read in front of the first without an answer.
        self._read = self._next = first  # Places: to be read, to be written.
        self._read_all = False
        self._bad_starts = 0
        self.written = self.failed = self.deaths = 0

    def _start(self) -> Actor:
        handle = self._worker.remote()
        return Actor(handle, handle.start.remote(self._command, self._folder))

    def run(self) -> None:
        """Until every line is answered. Throws Failure."""
        while True:
            for actor in self._actors:
                if actor.call is None:
                    self._deal(actor)
            if self._read_all and not self._again and not any(actor.lines for actor in self._actors):
                return
            calls = {actor.call: actor for actor in self._actors if actor.call is not None}
            (call,), _ = ray.wait(list(calls))
            self._finish(calls[call])

    def _take(self, busy: bool) -> Optional[Line]:
        if self._again:
            return None if busy and self._again[0].suspect() else heapq.heappop(self._again)
        if self._read_all or self._read - self._next >= self._most_ahead:
            return None
        line = next(self._lines, None)
        self._read_all = line is None
        self._read += line is not None
        return line

    def _deal(self, actor: Actor) -> None:
        lines: list[bytes] = []
        while len(actor.lines) < self._window and (line := self._take(bool(actor.lines))):
            actor.lines.append(line)
            lines.append(line.dealt())
            if line.suspect():
                break
        if actor.lines:
            actor.call = actor.handle.exchange.remote(lines)

    def _finish(self, actor: Actor) -> None:
        """Takes what the call of `actor` has brought."""
        try:
            answers, end = ray.get(actor.call)
        except ray.exceptions.RayActorError as error:
            answers, end = [], (-1, str(error).splitlines()[0])
        actor.call = None
        for answer in answers:
            self._answers[actor.lines.popleft().place] = answer
        if end is None:
            actor.started = True
            self._bad_starts = 0
        elif 0 <= end[0] < 128:  # Not a signal: what lapidary itself refuses, it refuses everywhere.
            raise Failure(end[1].removeprefix("lapidary: "), end[0] or 1)
        else:
            self._replace(actor, end[1])
        self._write()

    def _replace(self, actor: Actor, why: str) -> None:
        self.deaths += 1
        self._bad_starts += not actor.started
        if self._bad_starts == MOST_DEATHS * len(self._actors):
            raise Failure(f"no worker lives until its model is loaded; the last one: {why}", 1)
        alone = len(actor.lines) == 1
        for line in actor.lines:
            line.shared += not alone
            line.alone += alone
            if line.alone < MOST_DEATHS:
                heapq.heappush(self._again, line)
            else:
                self._answers[line.place] = line.error()
        ray.kill(actor.handle)  # Where only its process has died.
        self._actors[self._actors.index(actor)] = self._start()

    def _write(self) -> None:
        ready: list[bytes] = []
        while (answer := self._answers.pop(self._next, None)) is not None:
            ready.append(answer)
            self._next += 1
        text = memoryview(b"".join(ready))
        while text:
            text = text[os.write(self._out, text) :]
        self.written += len(ready)
        self.failed += sum(map(is_error, ready))


def count_answers(path: str) -> tuple[int, int, bool]:
    """Lines of a file of answers, errors among them, and whether its end was cut; zeros where there is none."""
    count, failed, line = 0, 0, b"\n"
    with open(path, "rb") if os.path.isfile(path) else contextlib.nullcontext([]) as file:
        for line in file:
            count += line.endswith(b"\n")
            failed += is_error(line)
    return count, failed, not line.endswith(b"\n")


def check_answers(options: argparse.Namespace, command: list[str]) -> None:
    """Has lapidary compare the answers that are there with their requests, and cut an unfinished last one."""
    count, _, cut = count_answers(options.output)
    if count + cut == 0:
        return
    os.environ.pop("LAPIDARY_SHARD", None)
    check = subprocess.Popen([*command, "-o", options.output], stdin=subprocess.PIPE, cwd=options.folder)
    with contextlib.suppress(BrokenPipeError), open(options.input, "rb") as file, check.stdin:
        for line in itertools.islice(read_lines(file), count + cut):
            check.stdin.write(line.dealt())
    if check.wait() not in (0, 1):  # 1: there are errors among them.
        raise Failure("", check.returncode)  # It has said why.


def connect(options: argparse.Namespace) -> None:
    """Joins the cluster, or makes one of this machine, and settles how many actors with how many threads there are."""
    if address := options.address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, logging_level="error", log_to_driver=False)
    else:
        cores = options.actors * options.threads if options.actors and options.threads else None
        ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE_BYTES,
                 logging_level="error", log_to_driver=False)
    free = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    options.threads = options.threads or min(filter(None, free), default=1)
    options.actors = options.actors or max(1, sum(cores // options.threads for cores in free))


def run(options: argparse.Namespace, more: list[str]) -> int:
    """The exit code. Throws Failure."""
    begin = time.monotonic()
    command = [options.lapidary, "batch", "-", "-q", *more, "--seed", str(options.seed), "--numbered", "--order", "input"]
    command += ["-m", options.model] if options.model else []
    command += ["--parallel", str(options.parallel)] if options.parallel else []
    check_answers(options, command)
    with open(options.input, "rb") as file, open(options.output, "ab", buffering=0) as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(f"{options.output}: another batch is writing this file", 1) from error
        there, failed, _ = count_answers(options.output)
        lines = read_lines(file)
        collections.deque(itertools.islice(lines, there), maxlen=0)
        connect(options)
        command += ["-o", "-", "--threads", str(options.threads)]
        driver = Driver(options, command, lines, there, out.fileno())
        driver.run()
    failed += driver.failed
    print(f"{driver.written} lines in {time.monotonic() - begin:.2f} s ({there} were there), {failed} failed, "
          f"{options.actors} actors of {options.threads} threads, {driver.deaths} lost", file=sys.stderr)
    return 1 if failed else 0


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def read_options(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Those of this program, and behind a "--" those of lapidary batch."""
    parser = argparse.ArgumentParser(description="Answers a file of requests on a Ray cluster.",
                                     epilog="What stands behind -- goes to lapidary batch: -- --temp 0 --memory-limit 4G")
    parser.add_argument("input", help="requests, as lapidary batch takes them")
    parser.add_argument("output", help="answers, in the order of the requests; gone on with where it ends")
    parser.add_argument("-m", "--model", help="file, or name in the model folder, on every machine")
    parser.add_argument("--address", help="of the cluster, as ray.init() takes it; else RAY_ADDRESS, else this machine alone")
    parser.add_argument("--actors", type=positive, help="workers; else as many as the cluster has room for")
    parser.add_argument("--threads", type=positive, help="of each actor; else the cores of the smallest machine")
    parser.add_argument("--parallel", type=positive, help="most answers that an actor draws together; else as many as pay")
    parser.add_argument("--window", type=positive, default=128, help="lines that an actor holds (128)")
    parser.add_argument("--seed", type=int, default=0, help="of the lines without one (0)")
    parser.add_argument("--lapidary", default="lapidary", help="the program, on every machine; else that of PATH")
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.folder = os.path.dirname(os.path.abspath(options.input))  # Names of pictures go out from it.
    options.output = os.path.abspath(options.output)
    options.model = os.path.abspath(options.model) if os.path.exists(options.model or "") else options.model
    options.lapidary = os.path.abspath(options.lapidary) if os.path.dirname(options.lapidary) else options.lapidary
    return options, words[end + 1 :]


def main() -> int:
    """The exit code; what is wrong is told in one line."""
    options, more = read_options(sys.argv[1:])
    try:
        return run(options, more)
    except KeyboardInterrupt:
        message, code = "interrupted; run the same command to go on", 130
    except Failure as error:
        message, code = error.args
    except OSError as error:
        message, code = str(error), 3
    except ray.exceptions.RayError as error:
        message, code = f"Ray: {str(error).splitlines()[0]}", 1
    if message:
        print(f"ray_batch: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
