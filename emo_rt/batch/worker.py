"""A worker process: one loaded model, one row after the other, until the driver says so or is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from emo_rt.animator import Animator
from emo_rt.batch.faults import is_storage_full, is_transient
from emo_rt.batch.manifest import FILES
from emo_rt.batch.remote import Remote, fetched, is_url
from emo_rt.batch.task import Done, Model, Ready, Task, Unusable
from emo_rt.errors import DeviceLostError, EmoRtError, InputError
from emo_rt.files import PART, sha256_of, whole_file
from emo_rt.media.video_target import output_errors
from emo_rt.processes import ORPHANED, kill_with_parent
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.request import Request
from emo_rt.version import __version__

FILES_BESIDE = tuple(name for name in FILES if name != "portrait")
"""What a row needs whose portrait is prepared."""


def load(model: Model, *, verify: bool = True) -> Animator:
    """The model with all its settings, wherever a worker runs. Raises as :meth:`emo_rt.Animator.load`."""
    return Animator.load(**asdict(model), verify=verify)


def main(driver: Connection, model: Model) -> None:
    """What the process runs: loads the model, then makes the rows that come."""
    end_with_the_driver()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal's Ctrl-C reaches all; the driver decides what it means
        signal.signal(number, signal.SIG_IGN)
    try:  # the driver has compared the files with their hashes a moment ago
        animator = load(model, verify=False)
    except EmoRtError as exc:
        driver.send(Unusable(exc))
        return
    with animator:
        driver.send(Ready(f"{animator.backend} on {animator.device}"))
        maker = RowMaker(animator)
        while (task := driver.recv()) is not None:
            done = maker.make(task)
            driver.send(done)
            if done.is_last:
                return


def end_with_the_driver() -> None:
    """However it ends, also by SIGKILL, and whatever this process is doing then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    kill_with_parent()
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()  # also where the driver was gone before the call above


class RowMaker:
    """Makes rows with one model. The last portrait stays prepared, so rows come grouped by it."""

    def __init__(self, animator: Animator) -> None:
        self._animator = animator
        self._portrait = ""
        self._prepared: Avatar | EmoRtError | None = None

    def make(self, task: Task) -> Done:
        """The video of a row, whole and on disk, or the error. Never raises an :class:`Exception`."""
        start = time.perf_counter()
        try:
            done = self._made(task)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with a row is that row's result
            done = Done(
                task.key,
                0.0,
                error_type=type(exc).__name__,
                error=" ".join(str(exc).split()),
                is_transient=is_transient(exc),
                is_storage_full=is_storage_full(exc),
                is_last=isinstance(exc, DeviceLostError),
            )
        return replace(done, wall_s=time.perf_counter() - start)

    def _made(self, task: Task) -> Done:
        is_prepared = self._prepared is not None and task.portrait == self._portrait
        with fetched(task.fields, FILES_BESIDE if is_prepared else FILES) as fields:
            return self._made_here(task, Request.from_dict(fields))

    def _made_here(self, task: Task, request: Request) -> Done:
        avatar = self._avatar(task.portrait, request)
        video = self._animator.animate(avatar, request.voice, options=request.animate)
        options = replace(request.video, generator=f"emo_rt {__version__}")
        with _written(task.output) as scratch:
            stats = video.save(scratch, options)
            digest = sha256_of(scratch)
        mark = options.mark_generated
        return Done(task.key, 0.0, digest, stats.frames, stats.frames / video.fps, mark)

    def _avatar(self, portrait: str, request: Request) -> Avatar:
        """Prepared once for rows that follow each other; so is the answer that a picture cannot be used."""
        if portrait != self._portrait or self._prepared is None:
            self.close()
            try:
                self._prepared = self._animator.prepare(request.portrait, options=request.prepare)
            except InputError as exc:
                if is_transient(exc):
                    raise
                self._prepared = exc
            self._portrait = portrait
        if isinstance(self._prepared, EmoRtError):
            raise self._prepared.with_traceback(None)
        return self._prepared

    def close(self) -> None:
        """Let go of the portrait. Safe twice."""
        if isinstance(self._prepared, Avatar):
            self._prepared.close()
        self._prepared = None


@contextmanager
def _written(output: str) -> Iterator[Path]:
    """A file to write to; at the end it is whole in its place, which may be a URL. Raises :class:`OutputError`."""
    if is_url(output):
        with tempfile.TemporaryDirectory(prefix="emo_rt-") as folder:
            scratch = Path(folder, f"video{PART}.mp4")
            yield scratch
            Remote(output).put(scratch)
        return
    target = Path(output)
    whole = whole_file(target, suffix=target.suffix, durable=True)
    with output_errors(f"the video {target} cannot be written"), whole as scratch:
        yield scratch
