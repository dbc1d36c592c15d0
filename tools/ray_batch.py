#!/usr/bin/env python3
"""Answers a file of requests on a Ray cluster: ray_batch.py -m MODEL IN OUT [-- OPTIONS OF lapidary batch].

Each actor runs one `lapidary batch`, which loads the model once; lines are dealt out as actors have room. OUT is, byte
for byte, what `lapidary batch IN -o OUT --seed 0` writes (but for cached_tokens), in the order of IN, whole lines only.
Run the same command again and it goes on, whatever stopped it. The lines of an actor that dies are given to others; a
line that takes three of them down gets an error as its answer. Needs Ray (pip install ray); every machine needs lapidary,
the model and the pictures at the same paths, but not the files of requests and answers.
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
from typing import Any, BinaryIO, Callable, Iterator, Optional

import ray

MOST_DEATHS = 3
MOST_LINE_BYTES = (64 << 20) + 1  # lapidary refuses a line that has so many; the rest of it need not travel.
STORE_BYTES = 100 << 20  # Of Ray's object store on this machine: lines are small.
BLANKS = b" \t\r\n"
MARK = b"\xef\xbb\xbf"  # Of the order of bytes, which a file may begin with.


class Failure(Exception):
    """One line for the user, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(order=True)
class Line:
    """A request."""

    place: int  # Among all requests, from 0.
    number: int  # Of the line in its file, from 1.
    text: bytes  # Without its line end.
    deaths: int = 0  # Of actors that had it.

    def dealt(self) -> bytes:
        """As `lapidary batch --numbered` takes it."""
        return b"%d %d\n%s\n" % (self.number, self.place, self.text)

    def error(self) -> bytes:
        """The answer to a line that cannot have one."""
        try:
            request = json.loads(self.text)
        except ValueError:
            request = None
        request = request if isinstance(request, dict) else {}
        custom = request.get("custom_id")
        answer = {"id": request.get("id")} if custom is None else {"id": f"batch_req_{custom}", "custom_id": custom, "response": None}
        message = f"{self.deaths} workers ended without an answer to it"
        answer["error"] = {"code": "failed", "message": message, "line": self.number, "digest": ""}
        return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def is_error(answer: bytes) -> bool:
    """Inside of a text the quotation marks would be escaped."""
    return b'"error":{"code":' in answer


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The requests of a file; blank lines are none."""
    place = number = 0
    while text := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        rest = text
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES)
        if len(text) > MOST_LINE_BYTES or (text.removeprefix(MARK) if number == 1 else text).strip(BLANKS):
            yield Line(place, number, text.removesuffix(b"\n"))
            place += 1


class Worker:
    """An actor: one `lapidary batch` on the machine where Ray has put it."""

    def __init__(self, command: list[str], folder: str) -> None:
        self._answers: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._due = 0  # Answers.
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment(),
            cwd=folder if os.path.isdir(folder) else None,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                self._answers.put(line)
        self._answers.put(None)

    def start(self) -> tuple[list[bytes], Optional[tuple[int, str]]]:
        """Returns once the model is loaded: a line that is no request is then answered at once."""
        _, end = self.exchange([b"1 0\n\n"])
        return [], end

    def exchange(self, lines: list[bytes]) -> tuple[list[bytes], Optional[tuple[int, str]]]:
        """Takes lines on and returns answers, in the order of the lines: at least one, where any is due. With them, if
        the process has ended, its exit code and what it said."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # The end shows below.
            self._process.stdin.write(b"".join(lines))
            self._process.stdin.flush()
        self._due += len(lines)
        answers: list[bytes] = []
        while (self._due and not answers) or not self._answers.empty():
            answer = self._answers.get()
            if answer is None:
                return answers, self._end()
            answers.append(answer)
            self._due -= 1
        return answers, None

    def _end(self) -> tuple[int, str]:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").splitlines()
        return code, said[-1] if said else f"lapidary ended with {code}"


def environment() -> dict[str, str]:
    """The parts are dealt out here."""
    return {name: value for name, value in os.environ.items() if name != "LAPIDARY_SHARD"}


class Actor:
    """An actor as the driver sees it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.handle = make()
        self.started = False
        self.lines: collections.deque[Line] = collections.deque()  # Dealt and not answered.
        self.call = self.handle.start.remote()  # Under way; None: idle.


class Driver:
    """Deals lines to actors and writes their answers in the order of the lines."""

    def __init__(self, make: Callable[[], Any], actors: int, window: int, lines: Iterator[Line], first: int, out: int) -> None:
        self._make = make
        self._actors = [Actor(make) for _ in range(actors)]
        self._window = window
        self._lines = lines
        self._out = out
        self._again: list[Line] = []  # A heap.
        self._answers: dict[int, bytes] = {}  # By place, until those in front of them are there.
        self._most_ahead = 16 * actors * window  # Lines read in front of the first without an answer.
        self._read = self._next = first  # Places: to be read, to be written.
        self._read_all = False
        self._bad_starts = 0
        self.written = self.failed = self.deaths = 0

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
            # One that may be to blame goes alone, so that no other is blamed with it.
            return None if busy and self._again[0].deaths == MOST_DEATHS - 1 else heapq.heappop(self._again)
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
            if line.deaths == MOST_DEATHS - 1:
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
        self._write()
        if end is None:
            actor.started = True
            self._bad_starts = 0
        elif end[0] >= 0:  # What lapidary itself refuses, it refuses everywhere.
            raise Failure(end[1].removeprefix("lapidary: "), end[0] or 1)
        else:
            self._replace(actor, end[1])

    def _replace(self, actor: Actor, why: str) -> None:
        self.deaths += 1
        self._bad_starts += not actor.started
        if self._bad_starts == MOST_DEATHS * len(self._actors):
            raise Failure(f"no worker lives until its model is loaded; the last one: {why}")
        for line in actor.lines:
            line.deaths += 1
            if line.deaths < MOST_DEATHS:
                heapq.heappush(self._again, line)
            else:
                self._answers[line.place] = line.error()
        self._write()
        ray.kill(actor.handle)  # Where only its process has died.
        self._actors[self._actors.index(actor)] = Actor(self._make)

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
    if not os.path.isfile(path):
        return 0, 0, False
    count = failed = 0
    line = b"\n"
    with open(path, "rb") as file:
        for line in file:
            count += line.endswith(b"\n")
            failed += is_error(line)
    return count, failed, not line.endswith(b"\n")


def check_answers(options: argparse.Namespace, command: list[str]) -> None:
    """Has lapidary compare the answers that are there with their requests, and cut an unfinished last one."""
    count, _, cut = count_answers(options.output)
    if count + cut == 0:
        return
    check = subprocess.Popen([*command, "-o", options.output], stdin=subprocess.PIPE, env=environment(), cwd=options.folder)
    assert check.stdin
    with contextlib.suppress(BrokenPipeError), open(options.input, "rb") as file, check.stdin:
        for line in itertools.islice(read_lines(file), count + cut):
            check.stdin.write(line.dealt())
    if check.wait() not in (0, 1):  # 1: there are errors among them.
        raise Failure("", check.returncode)


def connect(options: argparse.Namespace) -> None:
    """Joins the cluster, or makes one of this machine, and settles how many actors with how many threads there are."""
    quiet = {"logging_level": "warning", "log_to_driver": False}
    if address := options.address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, **quiet)
    else:
        cores = options.actors * options.threads if options.actors and options.threads else None
        ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    options.threads = options.threads or min(filter(None, cores), default=1)
    options.actors = options.actors or max(1, sum(count // options.threads for count in cores))


def run(options: argparse.Namespace, more: list[str]) -> int:
    """The exit code. Throws Failure."""
    start = time.monotonic()
    command = [options.lapidary, "batch", "-", "-q", *more, "--seed", str(options.seed), "--numbered", "--order", "input"]
    command += ["-m", options.model] if options.model else []
    command += ["--parallel", str(options.parallel)] if options.parallel else []
    check_answers(options, command)
    there, failed, _ = count_answers(options.output)
    out = os.open(options.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with os.fdopen(out, "ab", buffering=0), open(options.input, "rb") as file:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(f"{options.output}: another batch is writing this file") from error
        lines = read_lines(file)
        collections.deque(itertools.islice(lines, there), maxlen=0)
        connect(options)
        command += ["-o", "-", "--threads", str(options.threads)]
        remote = ray.remote(num_cpus=options.threads)(Worker)
        driver = Driver(lambda: remote.remote(command, options.folder), options.actors, options.window, lines, there, out)
        driver.run()
    print(f"{driver.written} lines in {time.monotonic() - start:.2f} s ({there} were there), {failed + driver.failed} failed, "
          f"{options.actors} actors with {options.threads} threads each, {driver.deaths} lost", file=sys.stderr)
    return 1 if failed + driver.failed else 0


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def read_options(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Those of this program, and behind a "--" those of lapidary batch."""
    parser = argparse.ArgumentParser(description="Answers a file of requests on a Ray cluster.",
                                     epilog="What stands behind -- goes to lapidary batch: -- --temp 0 --chat")
    parser.add_argument("input", help="requests, as lapidary batch takes them")
    parser.add_argument("output", help="answers, in the order of the requests; gone on with where it ends")
    parser.add_argument("-m", "--model", default="", help="file, or name in the model folder, on every machine")
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
    if os.path.exists(options.model):
        options.model = os.path.abspath(options.model)
    if os.path.dirname(options.lapidary):
        options.lapidary = os.path.abspath(options.lapidary)
    return options, words[end + 1 :]


def main() -> int:
    options, more = read_options(sys.argv[1:])
    try:
        return run(options, more)
    except KeyboardInterrupt:
        print("ray_batch: interrupted; run the same command to go on", file=sys.stderr)
        return 130
    except (Failure, OSError) as error:
        if str(error):
            print(f"ray_batch: {error}", file=sys.stderr)
        return error.code if isinstance(error, Failure) else 3


if __name__ == "__main__":
    sys.exit(main())
