"""How large the C2PA manifest of a file is, by the headers of its parts alone: before a library reads all of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, TypeAlias

File: TypeAlias = "IO[bytes] | io.RawIOBase"

MANIFEST_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Of a ``uuid`` box of MP4 and MOV (C2PA 2.2, A.5)."""
HEADER = 8
"""Bytes of a box's, or a chunk's, size and name."""


def manifest_bytes(file: File, demuxer: str) -> int:
    """Bytes that the manifests of an MP4, MOV or AVI file say that they have; no more than the file has.

    ``demuxer``: FFmpeg's name of it. What comes after a part of an impossible size is not looked at.
    """
    end = file.seek(0, io.SEEK_END)
    parts = _chunks(file, end) if demuxer == "avi" else _boxes(file, end)
    return sum(min(size, end - start) for start, size in parts)


def _boxes(file: File, end: int) -> Iterator[tuple[int, int]]:
    """Start and size of each box with a manifest, on the outermost level: C2PA's has its place there."""
    start = 0
    while start + HEADER <= end:
        head = _read(file, start, HEADER + 8 + len(MANIFEST_UUID))
        size, name, body = int.from_bytes(head[:4], "big"), head[4:8], HEADER
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), HEADER + 8
        if size == 0:  # up to the end
            size = end - start
        if name == b"uuid" and head[body : body + len(MANIFEST_UUID)] == MANIFEST_UUID:
            yield start, size
        if size < body:
            return
        start += size


def _chunks(file: File, end: int) -> Iterator[tuple[int, int]]:
    """The same of the chunks of RIFF: those in the outermost ones, of which a long AVI has several."""
    start = 0
    while start + HEADER <= end:
        head = _read(file, start, HEADER)
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"C2PA":
            yield start, size
        is_outermost = name == b"RIFF"
        start += HEADER + (4 if is_outermost else size + size % 2)


def _read(file: File, start: int, count: int) -> bytes:
    """Fewer at the end of the file."""
    file.seek(start)
    return file.read(count) or b""
