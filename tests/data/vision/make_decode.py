"""Makes decode/ beside this file: small pictures of every kind that the library reads, and what Pillow sees in them.

Needs numpy and Pillow 13. decode/index.tsv has a line for each picture (those of images/ too): its path from here, width,
height, and either "=" and the FNV-1a hash of its RGB bytes, or the greatest difference a byte may have, the step, and the PNG
that holds every step-th pixel of every step-th row. What is expected is what Pillow decodes, with EXIF's orientation applied
and alpha dropped; only 16-bit grey differs, where Pillow saturates and the library takes the high byte.
"""

import io
import pathlib
import shutil
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "decode"
random = np.random.default_rng(1)
lines = []


def picture(width, height, channels=3):
    """Something smooth with some noise, so that a lossy format has both to do."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    wave = 127 + 90 * np.sin(x * (0.2 + 0.05 * c) + c) * np.cos(y * 0.23 - c) + random.normal(0, 8, (height, width, channels))
    return wave.clip(0, 255).astype(np.uint8)


def pillow_rgb(path):
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I;16"):
            return np.repeat((np.asarray(turned) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.asarray(turned.convert("RGB"))


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & (2**64 - 1)
    return value


def expect(path, tolerance=None, step=1):
    rgb = pillow_rgb(path)
    name = path.relative_to(HERE).as_posix()
    line = f"{name}\t{rgb.shape[1]}\t{rgb.shape[0]}\t"
    if tolerance is None:
        line += f"=\t{fnv1a(rgb.tobytes()):016x}"
    else:
        seen = OUT / "expected" / f"{path.parent.name}-{path.name.replace('.', '-')}.png"
        Image.fromarray(np.ascontiguousarray(rgb[::step, ::step])).save(seen, optimize=True)
        line += f"{tolerance}\t{step}\t{seen.relative_to(HERE).as_posix()}"
    lines.append(line)


def put(name, data, tolerance=None):
    (OUT / name).write_bytes(data)
    expect(OUT / name, tolerance)


def saved(array, form, mode=None, **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array, mode) if mode is None else \
        Image.fromarray(array).convert(mode)
    image.save(buffer, form, **options)
    return buffer.getvalue()


# PNG


def png_rows(samples, depth, channels):
    """Packed and filtered rows, each with another filter."""
    height, width = samples.shape[:2]
    pixel = max(1, depth * channels // 8)
    out, above = b"", None
    for y in range(height):
        flat = samples[y].reshape(-1)
        if depth == 16:
            row = flat.astype(">u2").tobytes()
        elif depth == 8:
            row = flat.astype(np.uint8).tobytes()
        else:
            bits = ((flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
            row = np.packbits(bits.reshape(-1)).tobytes()
        row = np.frombuffer(row, np.uint8).astype(int)
        above = np.zeros_like(row) if above is None else above
        left = np.concatenate([np.zeros(pixel, int), row])[:len(row)]
        corner = np.concatenate([np.zeros(pixel, int), above])[:len(row)]
        guess = left + above - corner
        a, b, c = abs(guess - left), abs(guess - above), abs(guess - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        kind = y % 5
        out += bytes([kind]) + ((row - [0, left, above, (left + above) // 2, paeth][kind]) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, depth, colour, interlaced=False, extra=b""):
    height, width, channels = samples.shape
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        parts = [samples[y::down, x::right] for x, y, right, down in passes]
        data = b"".join(png_rows(part, depth, channels) for part in parts if part.size)
    else:
        data = png_rows(samples, depth, channels)
    packed = zlib.compress(data, 9)
    half = len(packed) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
            + extra + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b""))


def make_png():
    names = {0: "grey", 2: "rgb", 3: "palette", 4: "grey-alpha", 6: "rgba"}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    for colour, name in names.items():
        for depth in depths[colour]:
            samples = random.integers(0, 2**depth, (9, 13, channels[colour]))
            palette = chunk(b"PLTE", random.integers(0, 256, 3 * 2**depth, np.uint8).tobytes()) if colour == 3 else b""
            for interlaced in (False, True):
                put(f"{name}{depth}{'-interlaced' if interlaced else ''}.png",
                    png(samples, depth, colour, interlaced, palette))
    small = chunk(b"PLTE", bytes(range(9)))
    put("palette-trns.png", png(random.integers(0, 3, (9, 13, 1)), 4, 3, extra=small + chunk(b"tRNS", b"\0\x80")))
    put("grey-trns.png", png(random.integers(0, 256, (9, 13, 1)), 8, 0, extra=chunk(b"tRNS", b"\0\x07")))
    put("rgb-trns.png", png(picture(13, 9), 8, 2, extra=chunk(b"tRNS", b"\0\x07\0\x08\0\x09")))
    put("interlaced-1x1.png", png(picture(1, 1), 8, 2, True))
    put("interlaced-3x2.png", png(picture(3, 2), 8, 2, True))
    exif = Image.Exif()
    exif[0x0112] = 8
    put("exif8.png", saved(picture(13, 9), "PNG", exif=exif))


# BMP


def bmp(rows, width, height, depth, compression=0, between=b"", old=False):
    """`rows` from the bottom, or from the top where height is negative."""
    if old:
        header = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, 0, 2835, 2835, 0, 0)
    start = 14 + len(header) + len(between)
    data = b"".join(row + bytes(-len(row) % 4) for row in rows)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + between + data


def make_bmp():
    rgb = picture(13, 9)
    put("bits1.bmp", saved(rgb, "BMP", "1"))
    put("grey8.bmp", saved(rgb, "BMP", "L"))
    put("palette8.bmp", saved(Image.fromarray(rgb).quantize(16), "BMP"))
    put("rgb24.bmp", saved(rgb, "BMP"))
    put("rgba32.bmp", saved(picture(13, 9, 4), "BMP"))
    colours = random.integers(0, 256, (16, 3), np.uint8)
    nibbles = random.integers(0, 16, (9, 14), np.uint8)
    nibble_rows = [bytes(row[0::2] << 4 | row[1::2]) for row in nibbles]
    put("palette4.bmp", bmp(nibble_rows, 13, 9, 4, between=b"".join(bytes(c) + b"\0" for c in colours)))
    put("os2-palette4.bmp", bmp(nibble_rows, 13, 9, 4, between=colours.tobytes(), old=True))
    put("os2-rgb24.bmp", bmp([row.tobytes() for row in rgb], 13, 9, 24, old=True))
    words = random.integers(0, 2**16, (9, 13), np.uint16)
    word_rows = [row.astype("<u2").tobytes() for row in words]
    put("rgb555.bmp", bmp(word_rows, 13, 9, 16))
    put("rgb565.bmp", bmp(word_rows, 13, 9, 16, 3, struct.pack("<III", 0xF800, 0x07E0, 0x001F)))
    longs = picture(13, 9, 4)
    put("top-down32.bmp", bmp([row.tobytes() for row in longs], 13, -9, 32))
    put("masks32.bmp", bmp([row.tobytes() for row in longs], 13, 9, 32, 3, struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)))


# GIF


def lzw_without_clear(pixels, bits):
    """Codes of a table that fills up and then stays as it is."""
    table = {(i,): i for i in range(2**bits)}
    size, stream, filled, word = bits + 1, [], 0, 0
    codes, text = [2**bits], ()

    for pixel in [*pixels, None]:
        longer = (*text, pixel)
        if pixel is not None and longer in table:
            text = longer
            continue
        codes.append(table[text])
        if pixel is not None and len(table) + 2 < 4096:
            table[longer] = len(table) + 2
        text = (pixel,)
    codes.append(2**bits + 1)
    known = 2**bits + 2
    for i, code in enumerate(codes):
        word |= code << filled
        filled += size
        while filled >= 8:
            stream.append(word & 255)
            word >>= 8
            filled -= 8
        # The decoder learns a code with every code but the first after the clear code.
        if i >= 2 and known < 4096:
            known += 1
        if known == 2**size and size < 12:
            size += 1
    stream.append(word & 255)
    data = bytes(stream)
    return bytes([bits]) + b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255)) + b"\0"


def make_gif():
    rgb = picture(13, 9)
    one = Image.fromarray(rgb).quantize(16)
    put("palette.gif", saved(one, "GIF", interlace=False))
    put("interlaced.gif", saved(one, "GIF", interlace=True))
    put("grey.gif", saved(Image.fromarray(rgb).convert("L"), "GIF"))
    put("transparent.gif", saved(one, "GIF", transparency=3))
    others = [Image.fromarray(255 - rgb).quantize(16), Image.fromarray(rgb[::-1].copy()).quantize(16)]
    put("animated.gif", saved(one, "GIF", save_all=True, append_images=others, duration=100))
    put("noise.gif", saved(Image.fromarray(random.integers(0, 256, (64, 80), np.uint8)), "GIF"))
    # The frame lies inside the screen, once with a transparent colour and once without.
    for name, blob in (("inside", saved(one, "GIF", interlace=False)),
                       ("inside-transparent", saved(one, "GIF", interlace=False, transparency=3))):
        at = blob.index(struct.pack("<BHHHH", 0x2C, 0, 0, 13, 9))
        blob = blob[:6] + struct.pack("<HH", 20, 16) + blob[10:at + 1] + struct.pack("<HH", 4, 3) + blob[at + 5:]
        put(f"{name}.gif", blob)
    noise = random.integers(0, 256, (64, 80))
    palette = random.integers(0, 256, 768, np.uint8).tobytes()
    put("full-table.gif", b"GIF87a" + struct.pack("<HHBBB", 80, 64, 0xF7, 0, 0) + palette
        + struct.pack("<BHHHHB", 0x2C, 0, 0, 80, 64, 0) + lzw_without_clear(noise.reshape(-1).tolist(), 8) + b";")


# JPEG


def make_jpeg():
    rgb = picture(29, 19)
    # Fancy upsampling is one algorithm, but its rounding is not the same in every version of libjpeg.
    put("420.jpg", saved(rgb, "JPEG", subsampling="4:2:0"), 3)
    put("422.jpg", saved(rgb, "JPEG", subsampling="4:2:2"), 3)
    put("444.jpg", saved(rgb, "JPEG", subsampling="4:4:4"), 2)
    put("progressive.jpg", saved(rgb, "JPEG", progressive=True), 3)
    put("restarts.jpg", saved(rgb, "JPEG", restart_marker_rows=1), 3)
    put("rgb.jpg", saved(rgb, "JPEG", keep_rgb=True), 2)
    put("grey.jpg", saved(rgb, "JPEG", "L"), 2)
    cmyk = saved(Image.fromarray(picture(29, 19, 4), "CMYK"), "JPEG")
    put("cmyk.jpg", cmyk, 2)
    adobe = cmyk.index(b"\xff\xee\0\x0eAdobe")
    put("cmyk-unmarked.jpg", cmyk[:adobe] + cmyk[adobe + 16:], 2)
    put("ycck.jpg", cmyk[:adobe + 15] + b"\2" + cmyk[adobe + 16:], 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        if orientation % 2 == 0:
            exif.endian = ">"
        put(f"exif{orientation}.jpg", saved(picture(13, 9), "JPEG", exif=exif, subsampling="4:4:4"), 2)


# WebP


def riff(*chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def make_webp():
    rgb, rgba = picture(29, 19), picture(29, 19, 4)
    put("lossy.webp", saved(rgb, "WEBP", quality=80), 2)
    put("lossless.webp", saved(rgb[:9, :13].copy(), "WEBP", lossless=True))
    put("lossy-alpha.webp", saved(rgba, "WEBP", quality=80, exact=True), 2)
    put("lossless-alpha.webp", saved(rgba[:9, :13].copy(), "WEBP", lossless=True, exact=True))
    exif = Image.Exif()
    exif[0x0112] = 6
    put("exif6.webp", saved(rgb[:9, :13].copy(), "WEBP", lossless=True, exif=exif))
    frames = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1].copy())]
    put("animated.webp", saved(rgb, "WEBP", save_all=True, append_images=frames, duration=100), 2)
    # A first frame that does not fill the canvas.
    still = saved(rgb[:9, :13].copy(), "WEBP", lossless=True)
    size24 = lambda value: struct.pack("<I", value - 1)[:3]
    frame = struct.pack("<I", 2)[:3] + struct.pack("<I", 1)[:3] + size24(13) + size24(9) + b"\x64\0\0\0" + still[12:]
    put("animated-inside.webp", riff((b"VP8X", b"\2\0\0\0" + size24(20) + size24(15)), (b"ANIM", bytes(6)), (b"ANMF", frame)))


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "expected").mkdir(parents=True)
    make_png()
    make_bmp()
    make_gif()
    make_jpeg()
    make_webp()
    for path in sorted((HERE / "images").iterdir()):
        if path.suffix == ".jpg":
            expect(path, 4, 5)
        else:
            expect(path)
    (OUT / "index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
