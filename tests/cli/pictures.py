"""What the tests with pictures share: the tiny model's vision file, the pictures of tests/data, and a cache."""

import json
import os
import shutil
import tempfile

from harness import DATA, TINY, Case

VISION = os.path.join(DATA, "vision")
MMPROJ = os.path.join(DATA, "tiny-gemma3-mmproj-f16.gguf")
IMAGE_TOKEN = 1762
VIEW = 256
PICTURE_TOKENS = 260  # Of one view, with its markers and blank lines.
FIRST_IN_TURN = 259  # The newline behind "user" and the blank line are one token.


def image(name):
    return os.path.abspath(os.path.join(VISION, "images", name))


SMALL, OTHER, WIDE = image("tiny_5x3.png"), image("gray.png"), image("wide_1600x500.png")


class Pictures(Case):
    """With the vision file, and one folder of features for all tests of the run."""

    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.cache)
        cls.model = ["-m", TINY, "--mmproj", MMPROJ, "--image-cache", cls.cache]

    def answer(self, *arguments, **more):
        return json.loads(self.ok("generate", "-q", *self.model, "--json", *arguments, **more))
