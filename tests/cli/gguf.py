"""GGUF files made from others, with keys and tensors changed, for the tests of the command line."""

import struct

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
ALIGNMENT = 32


class Gguf:
    """`keys` are (type, value) by name; arrays are (9, (element type, values)). `tensors` are (shape, type, bytes) by name."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes, self.at = file.read(), 0
        _, _, tensors, keys = self._take("<IIQQ")
        self.keys = {}
        for _ in range(keys):
            name = self._string().decode()
            kind = self._take("<I")[0]
            self.keys[name] = (kind, self._value(kind))
        table = []
        for _ in range(tensors):
            name = self._string().decode()
            shape = self._take(f"<{self._take('<I')[0]}Q")
            table.append((name, shape, *self._take("<IQ")))
        start = -(-self.at // ALIGNMENT) * ALIGNMENT
        ends = sorted([offset for *_, offset in table] + [len(self.bytes) - start])
        self.tensors = {}
        for name, shape, kind, offset in table:
            end = ends[ends.index(offset) + 1]
            self.tensors[name] = (shape, kind, self.bytes[start + offset : start + end])

    def _take(self, pattern):
        values = struct.unpack_from(pattern, self.bytes, self.at)
        self.at += struct.calcsize(pattern)
        return values

    def _string(self):
        size = self._take("<Q")[0]
        self.at += size
        return self.bytes[self.at - size : self.at]

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._take("<" + NUMBERS[kind])[0]
        element, count = self._take("<IQ")
        return element, [self._value(element) for _ in range(count)]

    def set_string(self, key, text):
        self.keys[key] = (STRING, text.encode() if isinstance(text, str) else text)
        return self

    def write(self, path):
        def string(text):
            return struct.pack("<Q", len(text)) + text

        def value(kind, content):
            if kind == STRING:
                return string(content)
            if kind != ARRAY:
                return struct.pack("<" + NUMBERS[kind], content)
            element, values = content
            return struct.pack("<IQ", element, len(values)) + b"".join(
                value(element, each) for each in values
            )

        out = bytearray(struct.pack("<IIQQ", 0x46554747, 3, len(self.tensors), len(self.keys)))
        for name, (kind, content) in self.keys.items():
            out += string(name.encode()) + struct.pack("<I", kind) + value(kind, content)
        data = bytearray()
        for name, (shape, kind, content) in self.tensors.items():
            out += string(name.encode()) + struct.pack("<I", len(shape))
            out += struct.pack(f"<{len(shape)}QIQ", *shape, kind, len(data))
            data += content + bytes(-len(content) % ALIGNMENT)
        out += bytes(-len(out) % ALIGNMENT)
        with open(path, "wb") as file:
            file.write(out + data)
        return path
