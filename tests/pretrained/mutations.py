"""safetensors files that are wrong in one way or another: each mutation is (bytes, rng) -> bytes."""

import json
import random
import struct
from collections.abc import Callable, Iterator

Mutation = Callable[[bytes, random.Random], bytes]
DTYPES = ("F32", "F16", "BF16", "I64", "F8_E4M3", "C64", "F4", "f32", "", None, 7, ["F32"])
NUMBERS = (-1, 0, 1, 2**31, 2**53, 2**63 - 1, 2**64, 1e9, 1.5, None, "3", True, [])


def mutated(sound: bytes, rng: random.Random) -> bytes:
    """`sound` after one to three mutations drawn by `rng`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        sound = rng.choice(MUTATIONS)(sound, rng)
    return sound


def _length(data, rng):
    """Another length of the header."""
    length = _header_length(data)
    other = (0, 1, length - 1, length + 1, len(data), len(data) - 8, 10**8, 2**63, 2**64 - 1)
    return struct.pack("<Q", rng.choice(other) % 2**64) + data[8:]


def _bits(data, rng):
    """A few bits flipped, in the header mostly."""
    found = bytearray(data)
    end = len(found) if rng.random() < 0.2 else min(len(found), 8 + _header_length(data))
    for _ in range(rng.randint(1, 4)):
        if end:
            found[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(data, rng):
    return data[: rng.randrange(len(data) + 1)]


def _longer(data, rng):
    return data + rng.randbytes(rng.randint(1, 64))


def _middle(data, rng):
    """A piece taken out, or put in twice."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randint(1, 40))
    return data[:start] + data[end:] if rng.random() < 0.5 else data[:end] + data[start:]


def _text(data, rng):
    """Other characters in the JSON."""
    pieces = (
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "NaN",
        "1e999",
        "\x00",
        "\ud7ff",
        "[" * 3000,
        '{"a":' * 3000,
    )
    text = _header_bytes(data).decode("utf-8", "replace")
    at = rng.randrange(len(text) + 1)
    return _joined(data, (text[:at] + rng.choice(pieces) + text[at + rng.randint(0, 3) :]).encode())


def _twice(data, rng):
    """A key that stands twice, with another claim."""
    header = _header(data)
    if not header:
        return data
    name = rng.choice(list(header))
    claim = dict(header[name]) if isinstance(header[name], dict) else {}
    claim["shape"] = [1, 2]
    text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(claim)}}}"
    return _joined(data, text.encode())


def _claims(data, rng):
    """Another dtype, shape, offset, name or kind of claim."""
    header = _header(data)
    if not header:
        return data
    name = rng.choice(list(header))
    claim = header[name]
    what = rng.choice(("dtype", "shape", "data_offsets", "name", "whole", "more", "meta"))
    if not isinstance(claim, dict):
        what = "whole"
    if what == "dtype":
        claim["dtype"] = rng.choice(DTYPES)
    elif what in ("shape", "data_offsets"):
        numbers = list(claim.get(what) or [0])
        if numbers and rng.random() < 0.8:
            numbers[rng.randrange(len(numbers))] = rng.choice(NUMBERS)
        else:
            numbers.append(rng.choice(NUMBERS))
        claim[what] = numbers
    elif what == "name":
        header[rng.choice(("", "../x", "a\nb", "\u202e", "x" * 5000))] = header.pop(name)
    elif what == "whole":
        header[name] = rng.choice((None, [], "x", 3, {}, {"dtype": "F32"}))
    elif what == "more":
        claim["run"] = "os.system"
    else:
        header["__metadata__"] = rng.choice(({}, {"a": 1}, [], None, {"a": {"b": "c"}}))
    return _joined(data, json.dumps(header).encode())


def _foreign(data, rng):
    """The beginning of another kind of file."""
    starts = (
        b"\x80\x04\x95",
        b"PK\x03\x04",
        b"\x93NUMPY\x01",
        b"\x89HDF\r\n",
        b"<html>",
        b"",
        b"\xff" * 16,
    )
    return rng.choice(starts) + data[rng.randint(0, 16) :]


def _huge(data, rng):
    """A header of megabytes."""
    return _joined(data, _header_bytes(data) + b" " * rng.choice((100_000, 9_000_000)))


MUTATIONS: tuple[Mutation, ...] = (
    *(_length, _bits, _bits, _bits, _cut, _longer, _middle, _text, _text, _twice),
    *(_claims, _claims, _claims, _claims, _foreign),
)
RARE: tuple[Mutation, ...] = (_huge,)


def rare(sound: bytes, rng: random.Random) -> Iterator[bytes]:
    for mutation in RARE:
        yield mutation(sound, rng)


def _header_length(data: bytes) -> int:
    found = int.from_bytes(data[:8], "little")
    return min(found, max(0, len(data) - 8))


def _header_bytes(data: bytes) -> bytes:
    return data[8 : 8 + _header_length(data)]


def _header(data: bytes) -> dict:
    try:
        found = json.loads(_header_bytes(data))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _joined(data: bytes, header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data[8 + _header_length(data) :]
