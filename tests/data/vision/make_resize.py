"""Makes resize.json beside this file: what Pillow makes of generated pictures, as FNV-1a hashes of the resized RGB bytes.

Needs numpy and Pillow 13. Each case has the picture (its kind, seed, width and height), the view that is cropped out (x, y,
width, height), the new size, and the hash. `pixels` is repeated in tests/unit/resize_test.cpp. "files" has the hashes of the
encoder's inputs for the files of images/: the whole picture first, then its views with pan-and-scan.
"""

import json
import pathlib
import random

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).resolve().parent
ENCODER = (896, 896)


def fnv(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def pixels(kind, seed, width, height):
    """noise: any byte; edges: 0 and 255; ramp: both axes rise, each channel its own way, with a little noise."""
    bits = np.arange(width * height * 3, dtype=np.uint32) + np.uint32(seed * 0x9E3779B1 & 0xFFFFFFFF)
    bits ^= bits >> 16
    bits *= np.uint32(0x7FEB352D)
    bits ^= bits >> 15
    bits *= np.uint32(0x846CA68B)
    bits ^= bits >> 16
    bits = bits.reshape(height, width, 3)
    if kind == "noise":
        return (bits >> 24).astype(np.uint8)
    if kind == "edges":
        return np.where(bits >> 31 != 0, 255, 0).astype(np.uint8)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    ramp = (x * (c + 1) * 80 // width + y * (3 - c) * 80 // height) & 255
    return np.minimum(ramp + (bits >> 29), 255).astype(np.uint8)


def resized(picture, view, size):
    x, y, width, height = view
    part = Image.fromarray(picture).crop((x, y, x + width, y + height))
    return part.resize(size, Image.Resampling.BILINEAR).tobytes()


def sizes():
    """(width, height), view or None for all, (new width, new height)"""
    whole = [(1, 1), (5, 3), (1, 300), (300, 1), (896, 896), (896, 500), (500, 896), (895, 897), (1600, 500), (420, 1000),
             (1200, 900), (2, 3000), (3000, 2), (1791, 1793)]
    for size in whole:
        yield size, None, ENCODER
    for view in [(0, 0, 400, 300), (301, 199, 400, 401), (703, 500, 97, 100), (13, 7, 1, 1), (0, 599, 800, 1),
                 (799, 0, 1, 600), (100, 100, 640, 480)]:
        yield (800, 600), view, ENCODER
    # Weights in more than one block, across and down; the second axis to 1, 2 and many.
    yield (60000, 2), None, (300, 3)
    yield (2, 150000), None, (3, 700)
    yield (60000, 3), (10, 1, 59980, 2), (300, 1)
    # Which axis is first shows where one shrinks and both change.
    for size in [(40, 100), (60, 20), (100, 100), (99, 177), (99, 178), (99, 179), (120, 40), (19, 21)]:
        yield size, None, (20, 20)
        yield size, None, (49, 100)
    for count in range(60):
        width, height = (random.choice([random.randint(1, 9), random.randint(1, 70), random.randint(1, 300)]) for _ in "wh")
        across, down = random.randint(1, width), random.randint(1, height)
        view = (random.randint(0, width - across), random.randint(0, height - down), across, down)
        new = (random.choice([random.randint(1, 40), across]), random.choice([random.randint(1, 200), random.randint(1, 9)]))
        yield (width, height), view if count % 2 else None, new


def cut(width, height):
    """Gemma 3's pan-and-scan with its default options, for the pictures here."""
    longer, shorter = max(width, height), min(width, height)
    views = [(0, 0, width, height)]
    if longer / shorter < 1.2:
        return views
    count = min(max(min(longer // 256, int(longer / shorter + 0.5)), 2), 4)
    step = -(-longer // count)
    if min(step, shorter) < 256:
        return views
    for start in range(0, longer, step):
        part = min(step, longer - start)
        views.append((start, 0, part, height) if width >= height else (0, start, width, part))
    return views


def main():
    random.seed(3)
    cases = []
    for index, (size, view, new) in enumerate(sizes()):
        kind = ("noise", "ramp", "edges")[index % 3]
        view = view or (0, 0, *size)
        picture = pixels(kind, index, *size)
        cases.append({"kind": kind, "seed": index, "picture": size, "view": view, "size": new,
                      "hash": fnv(resized(picture, view, new))})
    files = {}
    for name in ("wide_1600x500.png", "china_png.png", "tiny_5x3.png", "gray.png"):
        picture = np.asarray(ImageOps.exif_transpose(Image.open(HERE / "images" / name)).convert("RGB"))
        height, width = picture.shape[:2]
        files[name] = [fnv(resized(picture, view, ENCODER)) for view in cut(width, height)]
    rows = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"cases": [\n{rows}\n],\n"files": {json.dumps(files, indent=1)}\n}}\n'
    (HERE / "resize.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
