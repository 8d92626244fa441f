"""A fragmented MP4 that is being written → pieces that a player can take one by one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

VIDEO_TRACK = 1
"""The picture is the first track of all that :mod:`emo_rt.media.mp4` writes."""
LAST_BOXES = frozenset({b"mdat"})
"""Boxes that end a piece: a fragment is ``moof`` and ``mdat``; the first has ``ftyp`` and ``moov`` in front."""
COUNT_AT = 4
"""Place of the number of samples in ``trun``, behind version and flags (ISO/IEC 14496-12, 8.8.8)."""


@dataclass(frozen=True)
class Fragment:
    """Some whole boxes."""

    data: bytes
    """The boxes."""
    frames: int
    """Pictures in them."""
    is_trailer: bool = False
    """Whether it is what comes behind the last fragment."""


class FragmentSink:
    """What the writer writes to: collects bytes until a fragment is whole."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._place = 0

    def write(self, data: bytes) -> int:
        """More of the file."""
        self._bytes += data
        return len(data)

    def take(self) -> Iterator[Fragment]:
        """The fragments that are whole by now."""
        while (header := self._header()) is not None:
            size, name = header
            if self._place + size > len(self._bytes):
                return
            self._place += size
            if name in LAST_BOXES:
                yield self._cut(is_trailer=False)

    def rest(self) -> Fragment | None:
        """What is left when the file is complete: its index."""
        self._place = len(self._bytes)
        return self._cut(is_trailer=True) if self._bytes else None

    def _header(self) -> tuple[int, bytes] | None:
        if len(self._bytes) < self._place + 8:
            return None
        size, name = struct.unpack_from(">I4s", self._bytes, self._place)
        return int(size), bytes(name)

    def _cut(self, *, is_trailer: bool) -> Fragment:
        data = bytes(self._bytes[: self._place])
        del self._bytes[: self._place]
        self._place = 0
        return Fragment(data, video_frames(data), is_trailer)


def video_frames(data: bytes) -> int:
    """How many pictures are in some whole boxes."""
    found = 0
    for name, moof in _boxes(data):
        for inner, traf in _boxes(moof) if name == b"moof" else ():
            if inner == b"traf":
                found += _samples(traf)
    return found


def _samples(traf: bytes) -> int:
    boxes = list(_boxes(traf))
    track = next(struct.unpack_from(">I", content, 4)[0] for name, content in boxes if name == b"tfhd")
    if track != VIDEO_TRACK:
        return 0
    return sum(struct.unpack_from(">I", content, COUNT_AT)[0] for name, content in boxes if name == b"trun")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box."""
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        yield name, data[place + 8 : place + size]
        place += max(size, 8)
