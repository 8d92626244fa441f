"""Threads that make the queued videos, one for each device. Live sessions go before them there."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import Span
from PIL import Image

from emo_rt.animator import Animator
from emo_rt.errors import Cancelled, ConfigError, DeviceLostError, EmoRtError, OutputError
from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.video_file import VideoOptions
from emo_rt.memory import peak_memory
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.request import Request
from emo_rt.runtime.result import Video, writer_of
from emo_rt.runtime.signal import Signal
from emo_rt.runtime.stages import Progress
from emo_rt.serve.avatars import Avatars, prepared
from emo_rt.serve.decoding import load_array
from emo_rt.serve.errors import ApiError, code_of
from emo_rt.serve.logs import event
from emo_rt.serve.places import Place, Places
from emo_rt.serve.records import FAILED, Job
from emo_rt.serve.spans import job_span, note_job_end, part_span
from emo_rt.serve.store import MOST_ATTEMPTS, SOUND, THUMBNAIL, VIDEO, Store

POLL_S = 30.0
"""Seconds between two looks at the queue when nobody says that it has changed; old jobs are deleted then."""
QUALITY = 85
"""Of the thumbnail, as JPEG."""

Ended = Callable[[Job, str, dict[str, float]], None]
"""Told of every end: the job, its status, seconds by stage."""


@dataclass
class _Running:
    """A job that is being made."""

    job: Job
    place: Place
    cancel: threading.Event = field(default_factory=threading.Event)
    percent: int = 0
    goes_back: bool = False
    is_deleted: bool = False
    """Whether its caller does not want it any more: the row is gone, the files go when it has stopped."""


class Runner:
    """Makes jobs, one at a time on each device. Made by the service; :meth:`close` ends the threads."""

    def __init__(self, store: Store, places: Places, avatars: Avatars, ended: Ended, marks: MarkOptions) -> None:
        """``marks``: of all videos."""
        self._marks = marks
        self._store, self._avatars, self._ended = store, avatars, ended
        self.signal = Signal()
        """Told when a job's status changes."""
        self.lost: str | None = None
        """Why a device is gone for good."""
        self._running = dict[str, _Running]()
        self._unnoted = list[Callable[[], object]]()
        """Ends of jobs that could not be written; tried again."""
        self._is_stopping = False
        self._looked_at = -math.inf
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, args=(place,), name=f"emo_rt serve: jobs on {place.name}", daemon=True)
            for place in places
        ]

    @property
    def is_idle(self) -> bool:
        """Whether no job is being made."""
        with self._changed:
            return not self._running

    def start(self) -> None:
        """Begin to make jobs."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """A job was added."""
        with self._changed:
            self._changed.notify_all()

    def progress(self, job: Job) -> int:
        """Percent of a job that runs."""
        running = self._running.get(job.id)
        return 0 if running is None else running.percent

    def cancel(self, job: Job) -> bool:
        """Stop a job whose row is gone. ``False`` if it does not run; otherwise its files go when it has stopped."""
        with self._changed:
            running = self._running.get(job.id)
            if running is None:
                return False
            running.is_deleted = True
            running.cancel.set()
            return True

    def drain(self, seconds: float) -> None:
        """Begin nothing new; wait for the running jobs, then put them back into the queue."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            if self._changed.wait_for(lambda: not self._running, seconds):
                return
            for running in self._running.values():
                running.goes_back = True
                running.cancel.set()

    def close(self) -> None:
        """As :meth:`drain` without waiting for a job; then waits for the threads. Safe twice."""
        self.drain(0)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self, place: Place) -> None:
        while True:
            with self._changed:
                running = self._next(place)
                if running is None:
                    return
            try:
                self._run(running)
            except Exception:  # a full disk: the row cannot be written now
                logging.getLogger(__name__).exception("the end of a job could not be noted")
            finally:
                self._leave(running)

    def _leave(self, running: _Running) -> None:
        """It is over. From now on its files are for whoever deletes its row."""
        with self._changed:
            del self._running[running.job.id]
            self._changed.notify_all()
        if running.is_deleted:  # it may have finished at the same moment
            self._store.remove_files(running.job)
        self.signal.tell()

    def _next(self, place: Place) -> _Running | None:
        """The next job, when there is one; ``None`` at the end."""
        while not self._is_stopping:
            try:
                job = self._claimed()
            except (OSError, sqlite3.Error):  # a full disk: the queue waits, and the server goes on
                logging.getLogger(__name__).exception("the queue cannot be read or written; trying again")
                job = None
            if job is not None:
                running = self._running[job.id] = _Running(job, place)
                return running
            self._changed.wait(POLL_S)
        return None

    def _claimed(self) -> Job | None:
        while self._unnoted:
            self._unnoted[0]()
            del self._unnoted[0]
        if time.monotonic() >= self._looked_at + POLL_S:  # not only when there is nothing to do
            self._looked_at = time.monotonic()
            self._store.expire()
        return None if self.lost else self._store.claim()

    def _run(self, running: _Running) -> None:
        with job_span(running.job, running.place.name) as span:
            self._run_in(running, span)

    def _run_in(self, running: _Running, span: Span) -> None:
        job, store, reason = running.job, self._store, ""
        self.signal.tell()
        event("job started", job=job.id, attempt=job.attempts)
        try:
            stats, seconds = self._make(running)
            status = "completed" if store.complete(job, seconds=seconds, stats=json.dumps(stats)) else "cancelled"
            stages = dict(stats["stage_durations"])
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is this job's end and not the server's
            status, stages, reason = self._end_of(running, exc), {}, str(exc)
        if status == "cancelled":
            store.remove_files(job)
        event("job ended", job=job.id, status=status)
        note_job_end(span, status, stages, reason)
        self._ended(job, status, stages)

    def _end_of(self, running: _Running, exc: Exception) -> str:
        """What becomes of a job that did not finish."""
        job = running.job
        if isinstance(exc, DeviceLostError):
            self.lost = str(exc)
            if job.attempts < MOST_ATTEMPTS:  # a job that always ends the device must not come back for ever
                return "queued" if self._store.requeue(job, counts=True) else "cancelled"
        if running.goes_back and isinstance(exc, Cancelled):
            return "queued" if self._store.requeue(job) else "cancelled"
        if isinstance(exc, Cancelled):
            return "cancelled"
        if not isinstance(exc, EmoRtError | ApiError):
            logging.getLogger(__name__).error("a job failed in an unexpected way", exc_info=exc)
        told = str(exc) if isinstance(exc, EmoRtError | ApiError) else f"unexpected {type(exc).__name__}"
        code = exc.code if isinstance(exc, ApiError) else code_of(exc)
        told = told.replace(f"{self._store.place(job)}/", "")
        try:
            return FAILED if self._store.fail(job, code, told) else "cancelled"
        except (OSError, sqlite3.Error):
            with self._changed:
                self._unnoted.append(lambda: self._store.fail(job, code, told))
            raise

    def _make(self, running: _Running) -> tuple[dict[str, Any], str]:
        """Make the files of a job. Returns what was measured, and the length of the video."""
        job, place = running.job, self._store.place(running.job)
        request = Request.from_dict({"portrait": "portrait", "voice": "voice", **job.options})
        animator = running.place.models.get(job.model)
        if animator is None:
            raise ApiError(409, "model_not_loaded", f"the model {job.model} is not loaded any more")
        with part_span("portrait"):
            avatar = self._avatar(job, animator, request)
        sound = load_array(place / SOUND, "int16", 2)

        def note(progress: Progress) -> None:
            done, total = progress.of_all
            running.percent = min(99, int(100 * done / total))

        video = animator.animate(
            avatar,
            sound,
            sample_rate=job.sample_rate,
            options=request.animate,
            cancel=running.cancel,
            progress=note,
        )
        self._store.note_size(job, f"{video.width}x{video.height}")
        with part_span("video"):
            self._write(video, request, place)
        stats = video.stats
        assert stats is not None
        peak = peak_memory()
        measured = {
            "inference_time_s": round(stats.wall_s, 3),
            "stage_durations": {stage: round(seconds, 4) for stage, seconds in stats.stages.items()},
            "peak_memory_mb": None if peak is None else round(peak / 2**20, 1),
        }
        return measured, f"{video.duration_s:.2f}"

    def _write(self, video: Video, request: Request, place: Path) -> None:
        try:
            write_video(video, self._marked(request), place)
        except ConfigError as exc:  # the caller's options were checked; the server's certificate may have expired
            logging.getLogger(__name__).error("a video cannot be written with the server's settings", exc_info=exc)
            raise OutputError("the video cannot be written with the server's settings; tell who runs it") from exc

    def _marked(self, request: Request) -> VideoOptions:
        """As the caller wants it encoded, with the server's marks; a label may also be the caller's wish."""
        is_labelled = self._marks.visible_label or request.video.visible_label
        return request.video.with_marks(replace(self._marks, visible_label=is_labelled))

    def _avatar(self, job: Job, animator: Animator, request: Request) -> Avatar:
        if job.avatar is None:
            return prepared(animator, self._store.place(job), request.prepare)
        record = self._store.avatar(job.avatar, job.owner)
        if record is None:
            raise ApiError(404, "avatar_not_found", "the avatar was deleted before the video was made")
        return self._avatars.get(record, animator)


def write_video(video: Video, options: VideoOptions, place: Path) -> None:
    """Make the video into its file, and its first frame into another."""
    thumbnail: NDArray[np.uint8] | None = None
    with writer_of(video, place / VIDEO, options) as writer, closing(video.chunks()) as chunks:
        for chunk in chunks:
            writer.write(chunk.frames)
            if thumbnail is None:
                (thumbnail,) = FrameMarker(options, video.fps)(chunk.frames[:1], 0)
    assert thumbnail is not None
    Image.fromarray(thumbnail).save(place / THUMBNAIL, quality=QUALITY)
