"""Builds the programs of tests/install/programs, the examples among them, against an installed package, and runs them:
programs_test.py --prefix FOLDER --work FOLDER --data FOLDER [--cxx COMPILER] [--standard 20] [--sanitize address,undefined]
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent / "programs"
ROOT = SOURCE.parents[2]
SECONDS = 240  # That a program may take.

options = argparse.Namespace()


def checked(command, **more):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **more)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def build():
    flags = "-Werror"
    if options.sanitize:
        flags += f" -O1 -g1 -fno-omit-frame-pointer -fsanitize={options.sanitize} -fno-sanitize-recover=all"
    environment = dict(os.environ)
    command = [options.cmake, "-S", SOURCE, "-B", options.work, "-G", options.generator, f"-DCMAKE_CXX_COMPILER={options.cxx}",
               f"-DCMAKE_CXX_STANDARD={options.standard}", f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_PREFIX_PATH={options.prefix}"]
    if shutil.which("ccache"):
        command.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        environment |= {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}
    checked(command, env=environment)
    checked([options.cmake, "--build", options.work, "--parallel", str(os.cpu_count())], env=environment)


class Running:
    """A program whose standard output is read as it comes."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.watch = threading.Timer(SECONDS, self.process.kill)
        self.watch.start()
        self.output = b""

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read(self):
        """What there is, at least one byte; nothing at the end."""
        piece = os.read(self.process.stdout.fileno(), 65536)
        self.output += piece
        return piece

    def read_until(self, *parts):
        while not all(part in self.output for part in parts) and self.read():
            pass

    def end(self):
        """Closes the input; the exit status and what was written to standard error."""
        self.process.stdin.close()
        while self.read():
            pass
        errors = self.process.stderr.read().decode(errors="replace")
        status = self.process.wait()
        self.watch.cancel()
        self.process.stdout.close()
        self.process.stderr.close()
        return status, errors


def example(name):
    return pathlib.Path(options.work) / "examples" / name


class Programs(unittest.TestCase):
    def run_program(self, program, *arguments, text="", status=0):
        result = subprocess.run([str(word) for word in (program, *arguments)], input=text.encode(), capture_output=True,
                                timeout=SECONDS, check=False, cwd=options.work)
        errors = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, status, f"{program}: {result.stdout[-1000:]}\n{errors[-8000:]}")
        return result.stdout.decode(errors="replace"), errors

    def test_chat(self):
        chat = Running(example("chat"), options.model)
        for replies in range(1, 4):  # A reply may end before it can be stopped.
            chat.write("Hello\n")
            chat.read()  # It has begun.
            chat.write("/stop\n")
            while chat.output.count(b" tokens\n") < replies and chat.read():
                pass
            if b" [stopped]\n" in chat.output:
                break
        self.assertIn(b" [stopped]\n", chat.output)
        status, errors = chat.end()
        self.assertEqual(status, 0, errors)
        self.assertEqual(chat.output.count(b" tokens\n"), replies)

    def test_classify(self):
        output, _ = self.run_program(example("classify"), options.model, "good", "bad", text="A fine day\nAll is lost\n")
        lines = output.splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            label, probability = line.split()
            self.assertIn(label, ("good", "bad"))
            self.assertTrue(0.5 <= float(probability) <= 1)
        output, _ = self.run_program(example("classify"), options.model, "good", "good", text="A fine day\n")
        self.assertEqual(output, "good 0.5\n")

    def test_load(self):
        output, errors = self.run_program(example("load"), options.model, 100)
        self.assertIn("MB needed", output)
        self.assertIn("parameters", output)
        self.assertIn("100 %", errors)
        output, _ = self.run_program(example("load"), options.model, 0, status=130)
        self.assertIn("given up", output)

    def test_pictures(self):
        output, errors = self.run_program(example("pictures"), options.model, options.mmproj, "What is this?",
                                          options.picture, SOURCE / "errors.cpp")
        self.assertTrue(output.startswith("1 pictures\n"), output)
        self.assertIn("layer 2 of 2", errors)
        self.assertIn("errors.cpp: expected a PNG", errors)
        tokens = int(output.splitlines()[-1].split()[0])
        self.assertGreater(tokens, 256)

    def test_resume(self):
        parts, whole, other = (pathlib.Path(options.work) / name for name in ("parts", "whole", "other"))
        resume = example("resume")
        self.run_program(resume, options.model, parts, 8, "Once upon a time")
        self.run_program(resume, options.model, parts, 8)
        twice, _ = self.run_program(resume, options.model, parts, 8)
        once, _ = self.run_program(resume, options.model, whole, 24, "Once upon a time")
        self.assertEqual(once, twice)
        self.assertEqual(parts.read_text(encoding="utf-8"), whole.read_text(encoding="utf-8"))
        lines = whole.read_text(encoding="utf-8").splitlines()
        for text, message in ((lines[0] + "\n2 x", "damaged"), ("another\n2\n", "of another model"), ("", "cannot be read")):
            other.write_text(text, encoding="utf-8")
            _, errors = self.run_program(resume, options.model, other, 8, status=1)
            self.assertIn(message, errors)

    def test_together(self):
        words = [f"word{i}" for i in range(40)]
        file, one = (pathlib.Path(options.work) / name for name in ("words", "word"))
        file.write_text("\n".join(words) + "\n", encoding="utf-8")
        output, errors = self.run_program(example("together"), options.model, file)
        lines = output.splitlines()
        self.assertEqual(sorted(line.split(":")[0] for line in lines), sorted(words))
        self.assertGreater(int(errors.split(", ")[1].split()[0]), 39 * 10, errors)  # Of the prompts was there.
        one.write_text(words[7] + "\n", encoding="utf-8")
        alone, _ = self.run_program(example("together"), options.model, one)
        self.assertIn(alone.splitlines()[0], lines)

    def test_ways(self):
        file = pathlib.Path(options.work) / "document"
        file.write_text("A gem is a stone. " * 60, encoding="utf-8")
        both, _ = self.run_program(example("ways"), options.model, file, "What?", "Why?")
        lines = [self.run_program(example("ways"), options.model, file, question)[0] for question in ("What?", "Why?")]
        self.assertEqual(both, "".join(lines))
        self.assertTrue(both.startswith("What?"), both)

    def test_server(self):
        server = Running(example("server"), options.model)
        server.write('{"id": "long", "session": 0, "prompt": "Tell me all.", "max_tokens": 4000}\n')
        server.read_until(b'"piece"')
        server.write('{"id": "long", "session": 1, "prompt": "The same id"}\n')
        for i in range(8):
            server.write(json.dumps({"id": f"r{i}", "session": i, "prompt": "Name a gem.", "max_tokens": 12}) + "\n")
        server.write('{"cancel": "long"}\n')
        server.read_until(*(b'"id":"r%d","tokens"' % i for i in range(1, 8)))
        server.write(json.dumps({"id": "early", "session": 7, "prompt": "word " * 1200}) + '\n{"cancel": "early"}\n')
        server.write(json.dumps({"id": "full", "session": 6, "prompt": "word " * 9000}) + "\n")
        server.write('{"cancel": "nobody"}\n{"id": "bad", "session": 8, "prompt": "x"}\n{"id":\n')
        status, errors = server.end()
        self.assertEqual(status, 0, errors)
        answers = [json.loads(line) for line in server.output.decode().splitlines()]
        of = lambda name: [a for a in answers if a.get("id") == name]
        text = lambda name: "".join(a.get("piece", "") for a in of(name))
        self.assertEqual(of("long")[-1]["done"], "cancelled", answers[-5:])
        self.assertLess(of("long")[-1]["tokens"], 4000)
        self.assertEqual(of("early"), [{"id": "early", "done": "cancelled", "tokens": 0}])
        self.assertIn("context", of("full")[-1]["error"])
        for i in range(8):
            self.assertIn(of(f"r{i}")[-1]["done"], ("length", "stop"))
        for i in range(2, 8):  # Sessions without a past, on as many threads, have the same bits.
            self.assertEqual(text(f"r{i}"), text("r1"))
        self.assertEqual(of("nobody"), [{"id": "nobody", "error": "no such request"}])
        self.assertEqual(len([a for a in answers if "id" not in a and "error" in a]), 3)

    def test_errors(self):
        self.run_program(pathlib.Path(options.work) / "errors", options.model)

    def test_misuse(self):
        self.run_program(pathlib.Path(options.work) / "misuse", options.model)

    def test_plugin(self):
        folder = pathlib.Path(options.work) / "plugin"
        hosts = [folder / name for name in ("host", "user") if (folder / name).exists()]
        said = [self.run_program(host, folder / "libplugin.so", options.model, "Hello")[0] for host in hosts]
        self.assertEqual(len(set(said)), 1, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("prefix", "work", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("--standard", default="20")
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--generator", default="Ninja")
    parser.parse_args(namespace=options)
    for name in ("prefix", "work", "data"):
        setattr(options, name, os.path.abspath(getattr(options, name)))
    options.model = os.path.join(options.data, "tiny-gemma3-text-bf16.gguf")
    options.mmproj = os.path.join(options.data, "tiny-gemma3-mmproj-f16.gguf")
    options.picture = os.path.join(options.data, "vision", "decode", "bits1.bmp")
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    os.environ.setdefault("TSAN_OPTIONS", "halt_on_error=1")
    build()
    unittest.main(argv=[sys.argv[0], "-v"])


if __name__ == "__main__":
    main()
