"""Where a video is written to: a file that is whole or not there, or somebody's binary file object."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from emo_rt.errors import Cancelled, EmoRtError, OutputError
from emo_rt.files import whole_file

if TYPE_CHECKING:
    from emo_rt.media.marking.signing import FileSigner

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
"""File name extension → libav's muxer."""


@contextmanager
def output_errors(failed: str) -> Iterator[None]:
    """Turn what the system or libav raises into :class:`OutputError`; our own errors pass."""
    from av.error import FFmpegError

    try:
        yield
    except EmoRtError:
        raise
    except FileExistsError as exc:
        raise OutputError(f"{failed}: it exists, and is kept; choose another name, or allow to overwrite it") from exc
    except (OSError, FFmpegError, ValueError) as exc:
        raise OutputError(f"{failed}: {exc}") from exc


def open_target(
    target: str | os.PathLike[str] | IO[bytes], fragmented: bool, *, overwrite: bool, source: Path | None
) -> PathTarget | StreamTarget:
    """``overwrite``: whether a file that exists is replaced. ``source``: the file that the sound is read from."""
    if isinstance(target, (str, os.PathLike)):
        return PathTarget(Path(target), overwrite, source)
    return StreamTarget(target, fragmented)


class PathTarget:
    """A file that gets its name when it is complete."""

    def __init__(self, path: Path, overwrite: bool, source: Path | None) -> None:
        if path.suffix.lower() not in FORMATS:
            raise OutputError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(FORMATS)}")
        failed = f"the video {path} cannot be written"
        with output_errors(failed):
            if path.is_dir():
                raise OutputError(f"{path} is a folder; expected the name of a file")
            if source is not None and path.exists() and path.samefile(source):
                raise OutputError(f"{path} is the video's own input; choose another name")
        self.name, self.format = str(path), FORMATS[path.suffix.lower()]
        self._whole = ExitStack()
        with output_errors(failed):
            scratch = self._whole.enter_context(whole_file(path.absolute(), overwrite=overwrite))
        self.destination = str(scratch)

    def stop(self) -> None:
        pass

    def sign(self, signer: FileSigner) -> None:
        """Put the same, signed, in the place of what was written."""
        written = Path(self.destination)
        with whole_file(written) as signed:
            signer.sign(written, signed, self.format)

    def commit(self) -> None:
        self._whole.pop_all().close()

    def discard(self) -> None:
        """Nothing is left, not even where :meth:`commit` has failed. After it there is nothing to discard."""
        with suppress(Cancelled), self._whole:
            raise Cancelled


class StreamTarget:
    """The caller's file object. It is written strictly forward, and never closed."""

    format = "mp4"

    def __init__(self, stream: IO[bytes], fragmented: bool) -> None:
        if not hasattr(stream, "write") or isinstance(stream, io.TextIOBase):
            raise OutputError(f"the target is {type(stream).__name__}; expected a path or a binary file object")
        if not fragmented:
            raise OutputError("a file object takes fragmented MP4 only; pass VideoOptions(fragmented=True) or a path")
        self.name = str(getattr(stream, "name", type(stream).__name__))
        self.destination = self
        self._stream: IO[bytes] | None = stream

    def write(self, data: bytes) -> int:
        """libav writes here. Raw files and sockets may take less than they are given; libav would lose the rest."""
        left = memoryview(data)
        while self._stream is not None and left:
            taken: Any = self._stream.write(left)
            if taken == 0 or (taken is None and isinstance(self._stream, io.RawIOBase)):
                raise OSError(f"{self.name} takes no more for now; expected a target that waits")
            left = left[len(left) if taken is None else taken :]
        return len(data)

    def stop(self) -> None:
        """Drop what comes from now on: a broken stream must not get an orderly end."""
        self._stream = None

    def sign(self, signer: FileSigner) -> None:
        """It cannot be; the writer refuses before it begins."""
        raise OutputError("a stream cannot be signed; write to a path")

    def commit(self) -> None:
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()

    def discard(self) -> None:
        pass
