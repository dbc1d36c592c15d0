"""Pictures: what the model is shown of them, and every command that takes them but chat. The tiny model with its vision
file and reference data lie in tests/data."""

import base64
import json
import math
import os
import pathlib
import shutil
import struct
import zlib

from harness import TINY, Case, main, settled
from pictures import (
    FIRST_IN_TURN,
    IMAGE_TOKEN,
    MMPROJ,
    OTHER,
    PICTURE_TOKENS,
    SMALL,
    VIEW,
    VISION,
    WIDE,
    Pictures,
    image,
)


def values(path, kind, size):
    with open(path, "rb") as file:
        raw = file.read()
    return struct.unpack(f"<{len(raw) // size}{kind}", raw)


def floats(path):
    return values(path, "f", 4)


def golden():
    with open(os.path.join(VISION, "vision.jsonl")) as file:
        return [json.loads(line) for line in file]


class Golden(Pictures):
    def setUp(self):
        super().setUp()
        self.environment["LAPIDARY_ALPHA"] = "drop"  # As Gemma 3's own processor does.

    def logits(self, case, images, options=()):
        ids = self.path("ids", struct.pack(f"<{len(case['ids'])}i", *case["ids"]))
        files = [word for name in images for word in ("--image", image(name))]
        self.ok("logits", *self.model, "--ids", ids, "--out", self.path("lg"), *files, *options)
        flat = floats(self.path("lg"))
        width = len(flat) // len(case["ids"])
        rows = [flat[i : i + width] for i in range(0, len(flat), width)]
        error = max(
            abs(rows[-1][i] - logit)
            for i, logit in zip(case["last_top20_ids"], case["last_top20_logits"], strict=True)
        )
        best = [max(range(width), key=row.__getitem__) for row in rows]
        agree = sum(a == b for a, b in zip(best, case["argmax_per_position"], strict=True))
        return error, agree / len(rows)

    def test_features_logits_and_prompts(self):
        for case in golden():
            if "image" not in case:
                continue
            name = case["image"]
            key = name.rsplit(".", 1)[0] + ("_pas" if case["pan_and_scan"] else "")
            options = ["--pan-and-scan"] if case["pan_and_scan"] else []
            loose = 2 if name.endswith(".jpg") else 1  # JPEG decoders differ.
            with self.subTest(key):
                self.ok(
                    *("encode-image", *self.model, "--image", image(name), *options),
                    *("--out", self.path("f")),
                )
                got = floats(self.path("f"))
                wanted = values(os.path.join(VISION, key + ".features.f16"), "e", 2)
                self.assertEqual(len(got), len(wanted))
                off = math.dist(got, wanted) / math.hypot(*wanted)
                self.assertLess(off, 0.005 if loose == 1 else 0.02)
                error, agree = self.logits(case, [name], options)
                self.assertLess(error, 0.05 * loose)
                self.assertGreater(agree, 0.97 if loose == 1 else 0.93)
                got = self.answer(
                    *("--image", image(name), *options, "--chat", "-n", "1", "--temp", "0"),
                    *("-p", case["text"].replace("<start_of_image>", "")),
                )
                self.assertEqual(got["prompt_ids"], case["ids"])
                self.assertEqual(got["usage"]["prompt_tokens"], len(case["ids"]))
                self.assertIn("image_seconds", got["timings"])

    def test_pictures_between_the_ids(self):
        for case in golden():
            if "name" in case:
                error, agree = self.logits(case, case.get("images", []))
                self.assertLess(error, 0.05)
                self.assertGreater(agree, 0.97)

    def test_ids_and_pictures_must_agree(self):
        ids = self.path("ids", struct.pack(f"<{VIEW + 1}i", 2, *[IMAGE_TOKEN] * VIEW))
        command = ["logits", *self.model, "--ids", ids, "--out", self.path("lg")]
        self.fails(2, ["512", "found 256"], *command, "--image", SMALL, "--image", SMALL)
        self.fails(2, ["image tokens"], *command)


class EncodeImage(Pictures):
    def encode(self, *arguments):
        return self.ok("encode-image", "-q", *self.model, *arguments)

    def test_views_and_tokens(self):
        lines = self.encode(
            *("--image", WIDE, "--image", SMALL, "--pan-and-scan", "--json"),
            *("--save-inputs", self.path("in")),
        ).splitlines()
        wide, small = map(json.loads, lines)
        self.assertEqual((wide["image"], wide["width"], wide["height"]), (WIDE, 1600, 500))
        boxes = [tuple(view.values()) for view in wide["views"]]
        self.assertEqual(
            boxes, [(0, 0, 1600, 500), (0, 0, 534, 500), (534, 0, 534, 500), (1068, 0, 532, 500)]
        )
        self.assertEqual((small["tokens"], len(small["views"])), (PICTURE_TOKENS, 1))
        with_it = self.answer("--image", WIDE, "--pan-and-scan", "-p", "x", "-n", "1", "--no-chat")
        without = self.generate("-p", "x", "-n", "1", "--no-chat")
        difference = len(with_it["prompt_ids"]) - len(without["prompt_ids"])
        self.assertEqual(wide["tokens"], difference)
        text = self.encode("--image", WIDE, "--tiles", "2x1", "--save-inputs", self.path("in"))
        self.assertIn("1600 x 500 pixels, 3 views", text)
        self.assertIn("x 800, y 0, 800 x 500", text)

    def test_saved_inputs_are_what_is_encoded(self):
        folder = self.path("new/in")
        self.encode("--image", OTHER, "--save-inputs", folder)
        self.assertEqual(os.listdir(folder), ["gray.00.png"])
        saved = os.path.join(folder, "gray.00.png")
        with open(saved, "rb") as file:
            header = file.read(24)
        self.assertEqual(header[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">2I", header[16:]), (896, 896))
        self.encode("--image", OTHER, "--out", self.path("a"))
        self.encode("--image", saved, "--out", self.path("b"))
        self.assertEqual(len(floats(self.path("a"))), VIEW * 64)
        self.assertEqual(floats(self.path("a")), floats(self.path("b")))

    def test_names_of_saved_inputs(self):
        os.mkdir(self.path("other"))
        same = shutil.copy(OTHER, self.path("other/tiny_5x3.jpg"))
        tiles = ["--tiles", "3x4", "--save-inputs", self.path("in")]
        self.encode("--image", SMALL, "--image", same, *tiles)
        names = sorted(os.listdir(self.path("in")))
        counts = [sum(name.startswith(front) for name in names) for front in ("00.", "01.")]
        lines = self.encode("--image", SMALL, "--image", same, "--json", *tiles).splitlines()
        self.assertEqual(counts, [len(json.loads(line)["views"]) for line in lines])
        self.assertEqual(counts[1], 13)
        self.assertEqual(names[-1], "01.tiny_5x3.12.png")

    def test_nothing_is_encoded_for_the_inputs_alone(self):
        cache = self.path("cache")
        command = ["encode-image", "-m", TINY, "--mmproj", MMPROJ, "--image", SMALL]
        self.ok(*command, "--image-cache", cache, "--save-inputs", self.path("in"))
        self.assertEqual(os.listdir(cache), [])
        self.ok(*command, "--image-cache", cache)
        self.assertEqual(len(os.listdir(cache)), 1)

    def test_errors(self):
        command = ["encode-image", *self.model]
        self.fails(2, "--image", *command)
        file = self.path("file", "x")
        self.fails_after_the_list(3, file, "--save-inputs", os.path.join(file, "in"))
        self.fails_after_the_list(3, "none", "--out", self.path("none/out"))
        for option in (
            ["--tiles", "3"],
            ["--tiles", "0x2"],
            ["--tiles", "2x2", "--pan-and-scan"],
            ["--tiles", "100x100"],
            ["--max-crops", "1"],
            ["--crop-ratio", "0.5"],
        ):
            self.fails(2, [], *command, "--image", SMALL, *option)

    def fails_after_the_list(self, code, words, *options):
        done = self.run_cli("encode-image", *self.model, "--image", SMALL, *options)
        self.assertEqual(done.returncode, code)
        self.assertIn(words, done.stderr.decode())


class Generate(Pictures):
    def test_raw_text(self):
        got = self.answer("--image", SMALL, "--image", OTHER, "-p", " x", "-n", "1", "--no-chat")
        plain = self.generate("-p", " x", "-n", "1", "--no-chat")
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN), 2 * VIEW)
        # BOS, the pictures, and the text as it is: its first blank has become part of a token.
        self.assertEqual(got["prompt_ids"][-1], plain["prompt_ids"][-1])
        self.assertEqual(got["usage"]["prompt_tokens"], len(got["prompt_ids"]))

    def test_the_order_counts(self):
        options = ["-p", "x", "-n", "1", "--temp", "0", "--chat", "--image"]
        first = self.answer(*options, SMALL, "--image", OTHER)
        second = self.answer(*options, OTHER, "--image", SMALL)
        self.assertEqual(first["prompt_ids"], second["prompt_ids"])
        ids = first["prompt_ids"]
        path = self.path("ids", struct.pack(f"<{len(ids)}i", *ids))
        rows = []
        for names in ((SMALL, OTHER), (OTHER, SMALL)):
            files = [word for name in names for word in ("--image", name)]
            self.ok("logits", *self.model, "--ids", path, "--out", self.path("lg"), *files)
            rows.append(floats(self.path("lg"))[-1763:])
        self.assertNotEqual(rows[0], rows[1])

    def test_a_picture_needs_no_text(self):
        got = self.answer("--image", SMALL, "-n", "1", "--chat")
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN), VIEW)

    def test_text_forges_no_picture(self):
        forged = "<start_of_image><image_soft_token><end_of_image>"
        got = self.answer("--image", SMALL, "-p", forged, "-n", "1", "--chat")
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN), VIEW)
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN - 1), 1)
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN - 2), 1)

    def test_too_long(self):
        self.fails(
            *(5, ["266", "261"], "generate", *self.model, "--image", SMALL, "-p", "hello world"),
            *("--no-chat", "-c", "261"),
        )

    def test_bad_pictures(self):
        command = ["generate", *self.model, "-p", "x", "--image"]
        self.fails(3, "none.png", *command, self.path("none.png"))
        self.fails(3, "text.png", *command, self.path("text.png", "no picture at all"))
        with open(OTHER, "rb") as file:
            half = file.read()[:5000]
        self.fails(3, "half.png", *command, self.path("half.png", half))
        self.fails(3, self.folder, *command, self.folder)

    def test_bad_vision_files(self):
        command = ["generate", "-m", TINY, "-p", "x", "--image", SMALL, "--mmproj"]
        self.fails(3, "none.gguf", *command, self.path("none.gguf"))
        self.fails(3, os.path.basename(TINY), *command, TINY)
        with open(MMPROJ, "rb") as file:
            half = file.read()[:200000]
        self.fails(3, "half.gguf", *command, self.path("half.gguf", half))

    def test_memory_limit(self):
        model = ["-m", TINY, "--mmproj", MMPROJ]
        self.ok("generate", *model, "-p", "x", "-n", "1", "-c", "400", "--memory-limit", "22M")
        picture = ["generate", *model, "-p", "x", "-n", "1", "-c", "400", "--image", SMALL]
        # With a picture the vision model counts, and what it works with.
        self.fails(4, "the memory limit is 22.0 MiB", *picture, "--memory-limit", "22M")
        self.ok(*picture, "--memory-limit", "100M")
        self.fails(4, "needs", "encode-image", *model, "--image", SMALL, "--memory-limit", "2M")


class VisionFile(Case):
    """Which vision file is taken when none is named."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("m"))
        self.model = self.link(TINY, "m/tiny.gguf")
        self.options = ["-p", "x", "-n", "1", "--no-chat", "--image", SMALL]

    def link(self, target, name):
        os.symlink(os.path.abspath(target), self.path(name))
        return self.path(name)

    def test_none(self):
        self.fails(2, ["no vision file", "--mmproj"], "generate", "-m", self.model, *self.options)
        self.fails(2, "no vision file", "encode-image", "-m", self.model, "--image", SMALL)
        self.fails(2, "no vision file", "bench", "-m", self.model, "--image")
        self.fails(2, "no vision file", "chat", "-m", self.model, "--image", SMALL)
        # What is wrong with the model is said first.
        self.fails(3, "none.gguf", "generate", "-m", self.path("m/none.gguf"), *self.options)

    def test_one(self):
        self.link(MMPROJ, "m/mmproj-tiny.gguf")
        got = self.generate(*self.options, model=self.model)
        self.assertEqual(got["prompt_ids"].count(IMAGE_TOKEN), VIEW)

    def test_in_the_model_folder(self):
        self.link(MMPROJ, "m/mmproj-tiny.gguf")
        text = self.ok("generate", *self.options, "--json", env={"LAPIDARY_HOME": self.path("m")})
        self.assertEqual(json.loads(text)["prompt_ids"].count(IMAGE_TOKEN), VIEW)

    def test_two(self):
        self.link(MMPROJ, "m/mmproj-a.gguf")
        self.link(MMPROJ, "m/mmproj-b.gguf")
        command = ["generate", "-m", self.model, *self.options]
        self.fails(2, ["several", "--mmproj"], *command)
        self.ok(*command, "--mmproj", self.path("m/mmproj-a.gguf"))
        self.ok(*command, env={"LAPIDARY_MMPROJ": self.path("m/mmproj-b.gguf")})


class Cache(Case):
    def encode(self, *options):
        done = self.run_cli(
            *("encode-image", "-m", TINY, "--mmproj", MMPROJ, "--out", self.path("f"), *options),
            *("--image", SMALL, "--image", WIDE),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b" encoded in ", done.stderr)
        return done.stderr.decode(), floats(self.path("f"))

    def test_a_second_process_finds_everything(self):
        cache = ["--image-cache", self.path("a/cache")]
        _, wanted = self.encode()
        first, features = self.encode(*cache)
        self.assertIn("2 views encoded", first)
        self.assertEqual(features, wanted)
        again, features = self.encode(*cache)
        self.assertIn("0 views encoded", again)
        self.assertEqual(features, wanted)
        # Another command, another crop: the whole picture is there.
        more, _ = self.encode(*cache, "--tiles", "2x1")
        self.assertIn("(2 were in the cache)", more)

    def test_a_damaged_file_is_made_anew(self):
        cache = ["--image-cache", self.path("cache")]
        _, wanted = self.encode(*cache)
        files = sorted(pathlib.Path(self.path("cache")).iterdir())
        self.assertEqual(len(files), 2)
        whole = files[0].read_bytes()
        for bad in (whole[:-4], b"", whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]):
            files[0].write_bytes(bad)
            text, features = self.encode(*cache)
            self.assertIn("1 view encoded", text)
            self.assertEqual(features, wanted)
            self.assertEqual(files[0].read_bytes(), whole)
        self.assertEqual(sorted(pathlib.Path(self.path("cache")).iterdir()), files)

    def test_a_folder_that_cannot_be_made(self):
        self.fails(
            *(3, "image cache", "encode-image", "-m", TINY, "--mmproj", MMPROJ, "--image", SMALL),
            *("--image-cache", self.path("file", "x")),
        )


class Batch(Pictures):
    def batch(self, *requests, code=0, options=None):
        """The answers to `requests` in a folder that holds small.png."""
        shutil.copy(SMALL, self.path("small.png"))
        text = "".join(json.dumps(request) + "\n" for request in requests)
        done = self.run_cli(
            *("batch", "-q", *(self.model if options is None else options), "--chat"),
            *(self.path("in.jsonl", text), "-o", self.path("out.jsonl")),
        )
        self.assertEqual(done.returncode, code, done.stderr)
        with open(self.path("out.jsonl"), "rb") as file:
            answers = [json.loads(line) for line in settled(file.read()).splitlines()]
        os.remove(self.path("out.jsonl"))
        return answers

    def message(self, *parts, text="hello"):
        content = [*parts, {"type": "text", "text": text}]
        return {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "seed": 3}

    def test_every_way_to_name_a_picture(self):
        wanted = self.answer("--image", SMALL, "-p", "hello", "-n", "4", "--seed", "3", "--chat")
        with open(SMALL, "rb") as file:
            data = "data:image/png;base64," + base64.b64encode(file.read()).decode()
        spaced = shutil.copy(SMALL, self.path("with blank%.png"))
        url = pathlib.Path(spaced).as_uri()
        self.assertIn("%20", url)
        requests = [
            {"prompt": "hello", "images": ["small.png"], "max_tokens": 4, "seed": 3},
            {"images": [SMALL], **self.message()},
            {"images": [data], **self.message()},
            self.message({"type": "image_url", "image_url": {"url": data, "detail": "high"}}),
            self.message({"type": "image_url", "image_url": {"url": url}}),
            self.message({"type": "image_url", "image_url": "small.png"}),
            *(self.message({"type": "image", key: "small.png"}) for key in ("path", "url", "image")),
            self.message({"type": "image", "url": url.replace("file://", "file://localhost")}),
        ]
        for request, got in zip(requests, self.batch(*requests), strict=True):
            self.assertEqual(got["text"], wanted["text"], request)
            self.assertEqual(got["usage"], {**wanted["usage"], "seed": 3})

    def test_openai(self):
        body = self.message({"type": "image_url", "image_url": {"url": "small.png"}})
        line = {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": body}
        (got,) = self.batch(line)
        wanted = self.answer("--image", SMALL, "-p", "hello", "-n", "4", "--seed", "3", "--chat")
        choice = got["response"]["body"]["choices"][0]
        self.assertEqual(choice["message"]["content"], wanted["text"])

    def test_pictures_stand_where_they_are_said(self):
        parts = [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "look"},
        ]
        there = [*parts[:2], {"role": "user", "content": [
            {"type": "image", "path": "small.png"}, {"type": "text", "text": "look"}]}]
        behind = [*parts[:2], {"role": "user", "content": [
            {"type": "text", "text": "look"}, {"type": "image", "path": "small.png"}]}]
        common = {"max_tokens": 8, "temperature": 0}
        got = self.batch(
            {"messages": parts, "images": ["small.png"], **common},
            {"messages": there, **common},
            {"messages": behind, **common},
            {"messages": parts, **common},
        )
        self.assertEqual(got[0]["text"], got[1]["text"])
        self.assertEqual(got[0]["digest"], got[1]["digest"])
        counts = [line["usage"]["prompt_tokens"] for line in got]
        self.assertEqual(counts[1] - counts[3], FIRST_IN_TURN)
        self.assertEqual(counts[2] - counts[3], PICTURE_TOKENS)

    def test_pictures_may_be_held_to_a_folder(self):
        root = self.path("shown")
        os.makedirs(os.path.join(root, "in"))
        shutil.copy(SMALL, os.path.join(root, "in", "a.png"))
        shutil.copy(SMALL, self.path("secret.png"))
        os.symlink(self.path("secret.png"), os.path.join(root, "link.png"))
        os.symlink(os.path.join(root, "in", "a.png"), self.path("into.png"))
        self.path("shown/text.png", "no picture")
        with open(SMALL, "rb") as file:
            data = "data:image/png;base64," + base64.b64encode(file.read()).decode()
        inside = ["in/a.png", "./in/../in/a.png", os.path.join(root, "in/a.png"), data,
                  self.path("into.png")]
        outside = ["../secret.png", "in/../../secret.png", self.path("secret.png"), "link.png",
                   "file://" + self.path("secret.png"), "none.png", "text.png", "/etc/passwd", "in", "."]
        got = self.batch(
            *({"prompt": "x", "images": [name], "max_tokens": 1} for name in inside + outside),
            code=1, options=[*self.model, "--image-root", root],
        )
        for name, line in zip(inside, got):
            self.assertIn("text", line, name)
        said = {line["error"]["message"] for line in got[len(inside):]}
        self.assertEqual(said, {"not a picture under " + root})
        self.fails(2, "is no folder", "batch", *self.model, self.path("in.jsonl"), "-o", "-",
                   "--image-root", self.path("nowhere"))

    def test_a_bad_picture_is_one_error(self):
        self.path("text.png", "no picture at all")
        data = "data:image/png;base64,"
        bad = [
            ("invalid_image", {"prompt": "x", "images": ["none.png"]}),
            ("invalid_image", {"prompt": "x", "images": ["small.png", "text.png"]}),
            ("invalid_image", {"prompt": "x", "images": [""]}),
            ("invalid_request", {"prompt": "x", "images": "small.png"}),
            ("invalid_request", {"prompt": "x", "images": [5]}),
            ("invalid_request", {"prompt": "", "images": []}),
            ("unsupported", {"prompt": "x", "images": ["http://example.org/a.png"]}),
            ("unsupported", self.message({"type": "image", "url": "HTTPS://example.org/a.png"})),
            ("invalid_image", self.message({"type": "image", "url": "file://elsewhere/a.png"})),
            ("invalid_image", self.message({"type": "image", "url": "file:///a%2"})),
            ("invalid_image", self.message({"type": "image", "url": "data:image/png,abc"})),
            *(
                ("invalid_image", self.message({"type": "image", "url": data + text}))
                for text in ("", "QQ=", "QQ", "Q===", "QR==", "Q!==", "QUJD\n", "QUJDRA==QUJD", "QUJD")
            ),
            ("invalid_request", self.message({"type": "image"})),
            ("invalid_request", self.message({"type": "image_url", "image_url": {"url": 5}})),
            ("invalid_request", self.message({"type": "audio", "path": "small.png"})),
            ("invalid_request", {"messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "image", "path": "small.png"}]},
                {"role": "user", "content": "b"}]}),
            ("context_length_exceeded", {"prompt": "x", "images": ["small.png"] * 5}),
        ]
        good = {"id": "good", "prompt": "x", "images": ["small.png"], "max_tokens": 1}
        got = self.batch(
            *(request for _, request in bad), good, code=1, options=[*self.model, "-c", "1000"]
        )
        for (code, request), line in zip(bad, got[:-1], strict=True):
            self.assertEqual(line["error"]["code"], code, (request, line))
        self.assertIn("text", got[-1])

    def test_without_a_vision_file_in_a_pipe(self):
        request = json.dumps({"prompt": "x", "images": ["small.png"]})
        done = self.run_cli(
            "batch", "-q", "-m", self.lone_model(), "-", "-o", "-", "-n", "1",
            input=request + "\n" + json.dumps({"prompt": "x"}) + "\n",
        )
        got = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(got[0]["error"]["code"], "unsupported")
        self.assertIn("--mmproj", got[0]["error"]["message"])
        self.assertIn("text", got[1])

    def lone_model(self):
        os.mkdir(self.path("lone"))
        return shutil.copy(TINY, self.path("lone/tiny.gguf"))


class Bench(Case):
    def test_image(self):
        lines = [
            json.loads(self.ok("bench", "-m", TINY, "--mmproj", MMPROJ, "--image", "--json", *more))
            for more in (["--rounds", "1"], ["--rounds", "2", "-t", "2"])
        ]
        for line in lines:
            self.assertEqual((line["test"], line["width"], line["tokens"]), ("image", 896, VIEW))
            self.assertTrue(0 < line["lowest"] <= line["seconds"] <= line["highest"], line)
        self.assertEqual(lines[0]["hash"], lines[1]["hash"])
        self.assertEqual([line["threads"] for line in lines], [1, 2])
        # A pass that is measured is computed.
        self.assertGreater(lines[1]["lowest"], 0.001)
        text = self.ok("bench", "-m", TINY, "--mmproj", MMPROJ, "--image", "--rounds", "1")
        self.assertIn(lines[0]["hash"], text)


class Transparency(Pictures):
    def test_it_is_shown_on_white_unless_dropped(self):
        clear = os.path.join(VISION, "images", "rgba.png")
        for alpha in ("white", "drop"):
            self.ok("encode-image", *self.model, "--image", clear, "--alpha", alpha,
                    "--save-inputs", self.path(alpha))
        with open(self.path("white/rgba.00.png"), "rb") as white, open(self.path("drop/rgba.00.png"), "rb") as drop:
            self.assertNotEqual(white.read(), drop.read())
        self.fails(2, "expected one of white, drop", "encode-image", *self.model, "--image", clear, "--alpha", "x")

    def test_decoding_counts_against_the_limit(self):
        # 100 megapixels in a few kilobytes.
        row = b"\0" + bytes(10_000 // 8)
        data = zlib.compress(row * 10_000, 9)
        chunk = lambda kind, body: (struct.pack(">I", len(body)) + kind + body
                                    + struct.pack(">I", zlib.crc32(kind + body)))
        bomb = self.path("bomb.png", b"\x89PNG\r\n\x1a\n"
                         + chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0))
                         + chunk(b"IDAT", data) + chunk(b"IEND", b""))
        self.assertLess(os.path.getsize(bomb), 40_000)
        self.fails(4, ["bomb.png", "10000x10000"], "generate", *self.model, "--image", bomb, "-p", "x",
                   "--memory-limit", "60M")


if __name__ == "__main__":
    main()
