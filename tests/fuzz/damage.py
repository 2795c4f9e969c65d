"""What happens to bytes: on a bad disk, in a cut transfer, in a hurried export, or on purpose."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

Damage = Callable[[random.Random, bytes], bytes]

_SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_AWKWARD = (
    b"\0", b"\n", b"\r", b"\r\n", b"\xff", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b'"', b'""', b",", b"{", b"}",
    b"null", b"[" * 5000, b'{"text":' * 3000, b"\xef\xbb\xbf", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"NaN",
    b"1e999", b"9" * 400, b'"\\ud800"', b"text",
)  # fmt: skip


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.choice((rng.randrange(len(content) + 1), len(content) - rng.randrange(1, 16)))]


def beheaded(rng: random.Random, content: bytes) -> bytes:
    return content[rng.choice((1, 4, 8, rng.randrange(len(content) + 1))) :]


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Single bits, anywhere."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flipped_at_an_end(rng: random.Random, content: bytes) -> bytes:
    """Single bits in the first or last few hundred bytes, where headers and footers lie."""
    damaged = bytearray(content)
    reach = min(len(damaged), rng.choice((16, 64, 300, 1000)))
    first = rng.choice((0, len(damaged) - reach))
    for _ in range(rng.choice((1, 1, 2, 4))):
        damaged[first + rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwritten(rng: random.Random, content: bytes) -> bytes:
    """A block of zeros, or of noise: a lost or foreign sector."""
    start = rng.randrange(len(content))
    length = rng.choice((1, 16, 512, 4096))
    block = bytes(length) if rng.random() < 0.5 else rng.randbytes(length)
    return (content[:start] + block + content[start + length :])[: len(content)]


def spliced(rng: random.Random, content: bytes) -> bytes:
    """Some bytes left out, doubled, or moved."""
    start, stop = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    other = rng.randrange(len(content) + 1)
    part = content[start:stop]
    return rng.choice((content[:start] + content[stop:], content[:stop] + part + content[stop:],
                       content[:other] + part + content[other:]))  # fmt: skip


def absurd_number(rng: random.Random, content: bytes) -> bytes:
    """A size, count or offset that cannot be, in some number of four or eight bytes."""
    width, layout = rng.choice(((4, "<I"), (8, "<Q"), (2, "<H")))
    near_an_end = rng.random() < 0.7
    reach = min(len(content), 600) if near_an_end else len(content)
    place = rng.randrange(reach) if rng.random() < 0.5 else len(content) - 1 - rng.randrange(reach)
    place = max(0, (place // 4 * 4) if rng.random() < 0.8 else place)
    number = rng.choice((*_SIZES, rng.getrandbits(8 * width))) & (256**width - 1)
    return content[:place] + struct.pack(layout, number) + content[place + width :]


def interspersed(rng: random.Random, content: bytes) -> bytes:
    """Bytes that mean something, where they should not be."""
    for _ in range(rng.choice((1, 1, 3, 20))):
        place = rng.randrange(len(content) + 1)
        content = content[:place] + rng.choice(_AWKWARD) + content[place:]
    return content


def emptied(rng: random.Random, content: bytes) -> bytes:
    return rng.choice((b"", b"\0", b"\n", content[:1], bytes(len(content))))


def prolonged(rng: random.Random, content: bytes) -> bytes:
    """Something behind the end: an interrupted overwrite, or two files in one."""
    return content + rng.choice((b"\0" * 100, b"\n\n", content, rng.randbytes(50)))


def mixed_newlines(rng: random.Random, content: bytes) -> bytes:
    return b"".join(line + rng.choice((b"\n", b"\r\n", b"\r", b"\n\r", b"\0\n")) for line in content.split(b"\n"))


DAMAGES: tuple[Damage, ...] = (
    truncated, truncated, beheaded, flipped, flipped, flipped_at_an_end, flipped_at_an_end, overwritten, spliced,
    absurd_number, absurd_number, interspersed, emptied, prolonged, mixed_newlines,
)  # fmt: skip


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The content with one damage, at times with two or three."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if content:
            content = rng.choice(DAMAGES)(rng, content)
    return content
