"""Folders as Hugging Face publishes models in, made of GGUF files and changed, for the tests of the command line."""

import json
import os
import struct

from gguf import Gguf

MARK = "\u2581"


def read_safetensors(path):
    """(dtype, shape, bytes) by name."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[8 + size :][slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


class Vocabulary:
    """The tokens of a GGUF file, in the forms that folders have them in."""

    def __init__(self, path):
        keys = Gguf(path).keys
        values = lambda name: keys["tokenizer.ggml." + name][1][1]
        self.texts = [text.decode() for text in values("tokens")]
        self.scores, self.types = values("scores"), values("token_type")
        for i, (text, kind) in enumerate(zip(self.texts, self.types)):
            if kind == 4:
                self.texts[i] = text.replace(" ", MARK)
            if text == "<unk>":
                self.types[i] = 2

    def write_model(self, path):
        def field(number, kind, value):
            return varint(number << 3 | kind) + (varint(value) if kind == 0 else value)

        def varint(value):
            out = b""
            while value >= 0x80:
                out += bytes([value & 0x7F | 0x80])
                value >>= 7
            return out + bytes([value])

        def text(number, value):
            return field(number, 2, varint(len(value)) + value)

        out = []
        for piece, score, kind in zip(self.texts, self.scores, self.types):
            body = text(1, piece.encode()) + field(2, 5, struct.pack("<f", score))
            out.append(text(1, body + field(3, 0, kind)))
        out.append(text(2, field(3, 0, 2) + field(35, 0, 1)))
        out.append(text(3, text(1, b"identity") + b"".join(field(n, 0, v) for n, v in ((3, 0), (4, 0), (5, 1)))))
        with open(path, "wb") as file:
            file.write(b"".join(out))

    def write_json(self, path):
        """Merges as they follow from scores: of each token every way to make it of two others, by score, then by length."""
        ids = {text: i for i, text in enumerate(self.texts)}
        merges = []
        for i, text in enumerate(self.texts):
            if self.types[i] not in (1, 4):
                continue
            halves = [(text[:n], text[n:]) for n in range(1, len(text))]
            merges += [(-self.scores[i], -len(a), -len(b), a, b) for a, b in halves if a in ids and b in ids]
        merges.sort(key=lambda merge: merge[:3])
        added = [
            {"id": i, "content": text, "special": self.types[i] in (2, 3)}
            for i, text in enumerate(self.texts)
            if self.types[i] in (2, 3, 4)
        ]
        content = {
            "added_tokens": added,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": MARK},
            "model": {
                "type": "BPE",
                "unk_token": "<unk>",
                "byte_fallback": True,
                "vocab": ids,
                "merges": [[a, b] for *_, a, b in merges],
            },
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
