"""What a talker keeps of a whole video on the device, and how windows of it are read and written.

Rows are frames. There is room for whole blocks of a window's length, so that the last block needs no other shape; what
lies behind the video's end is computed and never looked at. Windows reach around the end of the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from emo_rt.device.buffers import Buffer
from emo_rt.device.stream import Stream
from emo_rt.model.contract import TensorSpec

OF_FRAMES = ("latents", "sums", "audio_tokens", "frame_weights")
"""Tensors of the step's graphs whose rows are frames of the video."""


def video_tensors(inputs: Iterable[TensorSpec], frames: int) -> list[TensorSpec]:
    """Those of ``inputs`` whose rows are frames of a window, for a whole video."""
    found = {tensor.name: tensor for tensor in inputs if tensor.name in OF_FRAMES}
    return [replace(tensor, shape=(_whole_blocks(tensor, frames), *tensor.shape[1:])) for tensor in found.values()]


def gather(stream: Stream, video: Buffer, window: Buffer, first: int, frames: int) -> None:
    """Enqueue copies: rows of the video from ``first`` on → all rows of the window, around the end of ``frames``."""
    for there, here, count in pieces(first, window.shape[0], frames):
        stream.copy(video.rows(there, there + count), window.rows(here, here + count))


def scatter(stream: Stream, window: Buffer, video: Buffer, first: int, frames: int) -> None:
    """The way back."""
    for there, here, count in pieces(first, window.shape[0], frames):
        stream.copy(window.rows(here, here + count), video.rows(there, there + count))


def pieces(first: int, count: int, frames: int) -> Iterator[tuple[int, int, int]]:
    """(row of the video, row of the window, rows) of each stretch without a break; ``count`` is at most ``frames``."""
    start = first % frames
    head = min(count, frames - start)
    yield start, 0, head
    if head < count:
        yield 0, head, count - head


def _whole_blocks(tensor: TensorSpec, frames: int) -> int:
    window = int(tensor.shape[0])
    return -(-frames // window) * window
