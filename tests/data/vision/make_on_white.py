"""Makes on_white/ beside this file: TIFF, HEIC and AVIF pictures, and what Pillow sees in them and in those pictures of
decode/ that have an alpha channel or a transparent colour, laid on white.

Needs numpy, Pillow 13 and pillow-heif. on_white/index.tsv has a line for each picture: its path from here, width, height, the
greatest difference a byte may have, and the PNG that is expected, with the orientation applied.
"""

import pathlib
import shutil

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "on_white"
random = np.random.default_rng(2)
lines = []
pillow_heif.register_heif_opener()


def picture(width, height, channels):
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    wave = 127 + 110 * np.sin(x * (0.1 + 0.03 * c) + c) * np.cos(y * 0.13 - c)
    return wave.clip(0, 255).astype(np.uint8)


def expect(path, tolerance):
    with Image.open(path) as image:
        image.seek(0)
        turned = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", turned.size, "white")
    seen = OUT / "expected" / f"{path.name.replace('.', '-')}.png"
    Image.alpha_composite(white, turned).convert("RGB").save(seen, optimize=True)
    name = path.relative_to(HERE).as_posix()
    lines.append(f"{name}\t{turned.width}\t{turned.height}\t{tolerance}\t{seen.relative_to(HERE).as_posix()}")


def put(name, array, tolerance, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array, mode)
    image.save(OUT / name, **options)
    expect(OUT / name, tolerance)


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "expected").mkdir(parents=True)
    rgb, rgba = picture(29, 19, 3), picture(29, 19, 4)
    put("plain.tif", rgb, 0)
    put("lzw.tif", rgb, 0, compression="tiff_lzw")
    put("deflate.tif", rgb, 0, compression="tiff_adobe_deflate")
    put("grey.tif", rgb[:, :, 0].copy(), 0)
    put("palette.tif", Image.fromarray(rgb).quantize(16), 0)
    put("bits.tif", Image.fromarray(rgb).convert("1"), 0, compression="group4")
    put("pages.tif", rgb, 0, save_all=True, append_images=[Image.fromarray(255 - rgb)])
    put("turned.tif", rgb, 0, tiffinfo={274: 6})
    put("alpha.tif", rgba, 2)
    smooth, clear = picture(64, 48, 3), picture(64, 48, 4)
    # Where colours have half of the resolution, every version of the libraries fills the rest in its own way.
    put("rgb.heic", smooth, 20, quality=90)
    put("alpha.heic", clear, 20, quality=90)
    put("rgb.avif", smooth, 20, quality=90)
    put("alpha.avif", clear, 20, quality=90)
    for path in sorted((HERE / "decode").iterdir()):
        if path.suffix not in (".png", ".webp", ".gif"):
            continue
        with Image.open(path) as image:
            clear = "A" in image.getbands() or "transparency" in image.info
            if clear and "animated" not in path.name and image.mode != "I;16":
                expect(path, 3 if path.suffix == ".webp" else 1)
    (OUT / "index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
