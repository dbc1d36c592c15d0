"""Batches in shards, and of lines that a program deals out: the bytes of one batch, whatever took which part."""

import json
import os
import subprocess
import unittest

from harness import LAPIDARY, TINY, Case, main, settled

BAD = '{"id": 3, "prompt":'
SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")


class Shards(Case):
    def setUp(self):
        super().setUp()
        for name in (*SLURM, "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"):
            self.environment.pop(name, None)

    def requests(self, count=23, ids=True, **more):
        """Mixed lines: blank ones, a broken one, one with several answers and one with a seed of its own."""
        lines = []
        for i in range(count):
            request = {**({"id": f"r{i}"} if ids else {}), "prompt": f"number {i % 5}" if ids else "number", "max_tokens": 2 + i % 4}
            if i == 4:
                request["n"] = 3
            if i == 6:
                request["seed"] = 70
            lines.append(json.dumps({**request, **more}))
        if ids and count > 9:
            lines[3] = BAD
            lines[5:5] = ["", " \t"]
            lines.insert(0, "")
        return self.path("in.jsonl", "\n".join(lines) + "\n")

    def batch(self, *options, out="out.jsonl", requests="in.jsonl", env=None, input=b""):
        name = requests if requests == "-" else self.path(requests)
        return self.run_cli("batch", "-m", TINY, name, "-o", out if out == "-" else self.path(out), *options, env=env, input=input)

    def answer(self, *options, code=1, **more):
        done = self.batch("-q", *options, **more)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr, b"")
        return done.stdout

    def content(self, name="out.jsonl"):
        with open(self.path(name), "rb") as file:
            return settled(file.read())

    def parts(self):
        return sorted(name for name in os.listdir(self.folder) if "-of-" in name)

    def merged(self, pattern):
        """By the line of docs/scaling.md."""
        merge = f"paste -d '\\n' {pattern} | grep ."
        return settled(subprocess.run(["bash", "-c", merge], cwd=self.folder, check=True, stdout=subprocess.PIPE).stdout)

    def refused(self, words, *options, code=2, **more):
        done = self.batch(*options, **more)
        error = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout, error.count("\n")), (code, b"", 1), error)
        self.assertIn(words, error)


class Bytes(Shards):
    def test_merged_they_are_one_batch(self):
        self.requests()
        self.answer("--seed", "9", out="whole.jsonl")
        whole = self.content("whole.jsonl")
        self.assertEqual(whole.count(b"\n"), 23)
        for count in (1, 2, 3, 11, 30):
            codes = []
            for index in range(1, count + 1):
                done = self.batch("--shard", f"{index}/{count}", "--seed", "9", out="out.{shard}.jsonl")
                codes.append(done.returncode)
                self.assertIn(f"shard {index:0{len(str(count))}}-of-{count}", done.stderr.decode())
            self.assertEqual(sum(codes), 1)  # The broken line is one shard's.
            self.assertEqual(len(self.parts()), count)
            self.assertEqual(self.merged(f"out.*-of-{count}.jsonl"), whole)
            # What was merged is taken for what one batch has written.
            self.path("merged.jsonl", self.merged(f"out.*-of-{count}.jsonl"))
            self.answer(out="merged.jsonl")
            self.assertEqual(self.content("merged.jsonl"), whole)
            for name in self.parts():
                os.remove(self.path(name))

    def test_as_done_and_from_a_pipe(self):
        requests = self.requests(17, top_p=0.5)
        with open(requests, "rb") as file:
            lines = [line for line in file if line.strip() and not line.startswith(BAD.encode())]
        text = b"".join(lines)
        self.path("in.jsonl", text)
        whole = sorted(self.answer("--seed", "3", "--order", "done", out="-", code=0).splitlines())
        for options, more in (([], {}), (["--parallel", "1"], {"requests": "-", "input": text})):
            got = b"".join(
                self.answer("--seed", "3", "--order", "done", "--shard", f"{i}/3", *options, out="-", code=0, **more)
                for i in (1, 2, 3)
            )
            self.assertEqual(sorted(settled(got).splitlines()), sorted(settled(line) for line in whole))

    def test_the_seed_is_the_same_in_all_of_them(self):
        self.requests(6, ids=False)
        seeds = []
        for index in (1, 2):
            out = self.answer("--shard", f"{index}/2", out="-", code=0)
            seeds.append([json.loads(line)["usage"]["seed"] for line in out.splitlines()])
        self.assertEqual(seeds, [[0, 2, 4], [1, 3, 5]])
        out = self.answer("--shard", "2/2", "--seed", "5", out="-", code=0)
        self.assertEqual([json.loads(line)["usage"]["seed"] for line in out.splitlines()], [6, 8, 10])

    def test_a_stopped_one_goes_on(self):
        self.requests()
        shard = ["--shard", "1/3", "--seed", "4"]
        done = self.batch(*shard)
        self.assertEqual(done.returncode, 1, done.stderr)
        whole = self.content()
        lines = whole.splitlines(True)
        self.assertEqual(len(lines), 8)
        for count in range(len(lines)):
            self.path("out.jsonl", b"".join(lines[:count]) + lines[count][: 20 * (count % 2)])
            self.answer(*shard)
            self.assertEqual(self.content(), whole)
        # Failed lines, too.
        with open(self.path("in.jsonl")) as file:
            text = file.read()
        self.path("in.jsonl", text.replace(BAD, '{"id": "r3", "prompt": "repaired", "max_tokens": 2}'))
        self.answer(*shard, out="repaired.jsonl", code=0)
        self.answer(*shard, "--retry-failed", code=0)
        self.assertEqual(self.content(), self.content("repaired.jsonl"))
        self.assertNotEqual(self.content(), whole)


class Refused(Shards):
    def test_what_is_no_shard(self):
        self.requests(2)
        for bad in ("5/4", "0/4", "a/b", "-1/4", "1/0", "/4", "1/", "1", "+1/4", "1/4/2", "1.5/4", "auto/0", "auto/x", "99999999999/99999999999"):
            with self.subTest(bad=bad):
                self.refused("--shard: expected I/N with I from 1 to N, auto or auto/N, got " + bad, "--shard", bad)
                self.refused("LAPIDARY_SHARD: expected I/N", env={"LAPIDARY_SHARD": bad})
        self.refused("--shard", "--shard", "1/2", "--numbered")
        self.refused("{shard}.jsonl asks for the name of a shard", out="{shard}.jsonl")
        self.assertEqual(os.listdir(self.folder), ["in.jsonl"])

    def test_answers_of_another_shard(self):
        """By their ids; where there are none, by what is asked; where all ask the same, by the seeds."""
        for name in ("ids", "prompts", "seeds"):
            out = name + ".jsonl"
            self.requests(8 if name == "ids" else 12, ids=name == "ids")
            if name == "prompts":
                self.path("in.jsonl", "".join(json.dumps({"prompt": f"p {i}", "max_tokens": 1}) + "\n" for i in range(12)))
            self.answer("--shard", "1/3", out=out, code=0)
            before = self.content(out)
            for other in ("2/3", "1/4", "1/2", "1/12", "3/4"):
                with self.subTest(name=name, other=other):
                    self.refused("use another file" if other != "1/12" else out, "--shard", other, out=out)
                    self.assertEqual(self.content(out), before)
            self.answer("--shard", "1/3", out=out, code=0)
            self.refused("use another file", "--shard", "1/3", "--seed", "7", out=out)
            self.assertEqual(self.content(out), before)

    def test_answers_of_another_shard_as_done(self):
        self.path("in.jsonl", "".join(json.dumps({"id": i, "prompt": "p", "max_tokens": 1}) + "\n" for i in range(12)))
        self.answer("--shard", "1/3", "--order", "done", code=0)
        before = self.content()
        for other in ("2/3", "1/4", "1/2"):
            self.refused("another input or shard", "--shard", other, "--order", "done")
            self.assertEqual(self.content(), before)


class Environment(Shards):
    def slurm(self, task, low, high, step=None, count=None):
        values = (task, low, high, step, count)
        return {name: str(value) for name, value in zip(SLURM, values) if value is not None}

    def name(self, *options, env):
        """The shard that is taken, by the name of its file."""
        self.answer("--shard", *options, out="x.{shard}", env=env, code=0)
        (name,) = self.parts()
        os.remove(self.path(name))
        return name.removeprefix("x.")

    def test_slurm(self):
        self.requests(2)
        for values, wanted in [
            ((0, 0, 7, 1, 8), "1-of-8"),
            ((7, 0, 7), "8-of-8"),
            ((12, 1, 12, 1, 12), "12-of-12"),
            ((5, 1, 7, 2, 4), "3-of-4"),
            ((5, 1, 8, 2, 4), "3-of-4"),
            ((4, 4, 4, 1, 1), "1-of-1"),
        ]:
            self.assertEqual(self.name("auto", env=self.slurm(*values)), wanted)
        self.assertEqual(self.name("auto/4", env=self.slurm(5, 1, 7, 2)), "3-of-4")
        self.assertEqual(self.name("1/2", env=self.slurm(5, 1, 7, 2)), "1-of-2")
        self.assertEqual(self.name("2/2", env={"LAPIDARY_SHARD": "auto"}), "2-of-2")
        self.answer(out="x.{shard}", env={"LAPIDARY_SHARD": "auto", **self.slurm(5, 1, 7, 2)}, code=0)
        self.assertEqual(self.parts(), ["x.3-of-4"])

    def test_kubernetes(self):
        self.requests(2)
        self.assertEqual(self.name("auto/8", env={"JOB_COMPLETION_INDEX": "0"}), "1-of-8")
        self.assertEqual(self.name("auto", env={"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}), "8-of-8")
        self.assertEqual(self.name("auto/8", env={"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}), "8-of-8")

    def test_what_cannot_be_told(self):
        self.requests(2)
        for option, env, words in [
            ("auto", {}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
            ("auto", {"SLURM_ARRAY_TASK_ID": ""}, "neither"),
            ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "but not SLURM_ARRAY_TASK_MIN"),
            ("auto", self.slurm("x", 0, 7), "SLURM_ARRAY_TASK_ID: expected a whole number"),
            ("auto", self.slurm(8, 0, 7), "task 8 is none of the Slurm array from 0 to 7 in steps of 1"),
            ("auto", self.slurm(2, 1, 7, 2), "task 2 is none"),
            ("auto", self.slurm(2, 1, 7, 0), "task 2 is none"),
            # --array=1,3,7, and task 3 of eight submitted again.
            ("auto", self.slurm(3, 1, 7, 1, 3), "has 3 tasks, but from its first to its last are 7"),
            ("auto/8", self.slurm(3, 3, 3, 1, 1), "expected 8 shards, but the environment has 1"),
            ("auto", {"JOB_COMPLETION_INDEX": "3"}, "give --shard auto/N"),
            ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX: expected less than 3, found 3"),
            ("auto/4", {"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "5"}, "expected 4 shards"),
            ("auto", {"JOB_COMPLETION_INDEX": "3", **self.slurm(0, 0, 7)}, "are both set"),
        ]:
            with self.subTest(option=option, env=env):
                self.refused(words, "--shard", option, env=env)
        self.assertEqual(os.listdir(self.folder), ["in.jsonl"])

    def test_nobody_loses_lines_unasked(self):
        self.requests(4)
        for env in (self.slurm(3, 1, 4), {"JOB_COMPLETION_INDEX": "1"}):
            done = self.batch(out="-", env=env)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(done.stdout.count(b"\n"), 4)
            self.assertIn(next(iter(env)) + " is set, and yet all requests are answered", done.stderr.decode())
            self.answer(out="-", env=env, code=0)


class Dealt(Shards):
    def numbered(self, chosen=lambda place: True):
        """What a program deals out of in.jsonl."""
        dealt, place = b"", 0
        with open(self.path("in.jsonl"), "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    dealt += f"{number} {place}\n".encode() + line if chosen(place) else b""
                    place += 1
        return dealt

    def test_they_are_what_they_are_in_the_file(self):
        self.requests()
        whole = settled(self.answer("--seed", "0", out="-")).splitlines(True)
        got = self.answer("--numbered", out="-", requests="-", input=self.numbered())
        self.assertEqual(settled(got), b"".join(whole))
        third = [place for place in range(23) if place % 3 == 1]
        got = self.answer("--numbered", out="-", requests="-", input=self.numbered(third.__contains__), code=0)
        self.assertEqual(settled(got), b"".join(whole[place] for place in third))
        # It goes on as any other does.
        self.path("out.jsonl", b"".join(whole[place] for place in third[:4]))
        self.answer("--numbered", requests="-", input=self.numbered(third.__contains__), code=0)
        self.assertEqual(self.content(), b"".join(whole[place] for place in third))

    def test_lines_that_are_none(self):
        line = b'{"id": 1, "prompt": "x", "max_tokens": 1}\n'
        done = self.batch("-q", "--numbered", out="-", requests="-", input=b"7 5\n\n8 6\r\n" + line)
        self.assertEqual(done.returncode, 3)  # A number is a number, nothing more.
        got = self.answer("--numbered", out="-", requests="-", input=b"7 5\n\n8 6\n" + line).splitlines()
        self.assertEqual(json.loads(got[0])["error"]["line"], 7)
        self.assertEqual(json.loads(got[1])["usage"]["seed"], 6)
        for bad in (line, b"\n" + line, b"7\n" + line, b"0 1\n" + line, b"-1 1\n" + line, b"7 5 3\n" + line, b"7  5\n" + line):
            with self.subTest(bad=bad):
                self.refused("line 1: expected the numbers of a line", "-q", "--numbered", code=3, out="-", requests="-", input=bad)

    def test_too_long_ones_have_their_numbers(self):
        long = b'{"prompt": "' + b"x" * (65 << 20) + b'"}\n'
        got = self.answer("--numbered", out="-", requests="-", input=b"7 5\n" + long + b"9 8\n" + b'{"prompt": "x", "max_tokens": 1}\n')
        first, second = map(json.loads, got.splitlines())
        self.assertEqual((first["error"]["line"], second["usage"]["seed"]), (7, 8))


if __name__ == "__main__":
    main()
