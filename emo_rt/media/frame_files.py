"""Frames on disk as PNG pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError, OutputError
from emo_rt.files import path_of, whole_folder
from emo_rt.media.video_target import output_errors

Frames = NDArray[np.uint8]


def write_frames_png(frames: Iterable[Frames], folder: str | os.PathLike[str]) -> int:
    """Write batches of (n, H, W, 3) uint8 RGB as ``000000.png`` … into ``folder``. Returns the number of pictures.

    The folder is made, or may exist and be empty; it appears when it is complete. Raises :class:`OutputError` if it is
    not empty, cannot be written, or there is no frame; what ``frames`` raises passes through. Nothing is left then.
    """
    folder = path_of("folder", folder).absolute()
    failed = f"the pictures cannot be written to {folder}"
    with output_errors(failed):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and is not an empty folder; choose another or empty it")
    count = 0
    with ExitStack() as stack:
        with output_errors(failed):
            partial = stack.enter_context(whole_folder(folder))
        for batch in frames:
            with output_errors(failed):
                for frame in batch:
                    (partial / f"{count:06d}.png").write_bytes(_png(frame))
                    count += 1
        if count == 0:
            raise OutputError("there was no frame, so there are no pictures; pass at least one")
        with output_errors(failed):
            stack.pop_all().close()
    return count


def _png(frame: Frames) -> bytes:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"a frame is {frame.shape} {frame.dtype}; expected (H, W, 3) uint8")
    import av
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    context = av.CodecContext.create("png", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = frame.shape[:2]
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 25)
    return b"".join(bytes(packet) for packet in context.encode(VideoFrame.from_ndarray(frame, "rgb24")))
