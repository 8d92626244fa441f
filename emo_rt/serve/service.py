"""Everything behind the routes: models, store, queue, avatars, live sessions. One per process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self, TypeVar

import anyio.to_thread

from emo_rt.animator import Animator
from emo_rt.errors import DeviceLostError, EmoRtError
from emo_rt.media.marking.signing import FileSigner
from emo_rt.media.video_file import VideoOptions
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.clips import frame_count
from emo_rt.runtime.live.session import LiveSession
from emo_rt.runtime.live.stats import LiveStats
from emo_rt.runtime.request import PrepareOptions
from emo_rt.serve.avatars import Avatars
from emo_rt.serve.decoder import UPLOADED_PICTURE, UPLOADED_SOUND, Decoded
from emo_rt.serve.decoding import Decoders
from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import Upload
from emo_rt.serve.keys import keys_for
from emo_rt.serve.logs import event
from emo_rt.serve.metrics import Metrics
from emo_rt.serve.places import Place, Places
from emo_rt.serve.quotas import Quotas
from emo_rt.serve.records import AvatarRecord, Job, new_id
from emo_rt.serve.runner import Runner
from emo_rt.serve.settings import ServeOptions
from emo_rt.serve.sizes import likely_size, options_for
from emo_rt.serve.spans import note_job_of_request
from emo_rt.serve.store import Store
from emo_rt.serve.submission import Submission, checked_request, reject_options

T = TypeVar("T")

LIVE_PRIORITY = 10.0
"""Of live sessions on the device; jobs have 0."""
OF_AVATAR = "it was decided when the avatar was made"
UPLOADS_AT_ONCE = 8
"""Uploads that are looked at at the same time; others wait. Threads of their own: asking how a job stands goes on."""
GOODBYE_S = 5.0
"""Seconds that live sessions get to end in order."""


class Restartable(Protocol):
    """A live connection, as far as it is told of the end."""

    def restart(self) -> None:
        """The server ends."""
        ...


class Service:
    """Owns all but the animators. A context manager; :meth:`start` begins the work."""

    def __init__(
        self,
        options: ServeOptions,
        models: Mapping[str, Animator],
        *others: Mapping[str, Animator],
        store: Store | None = None,
        makes_jobs: bool = True,
    ) -> None:
        """``models``: by name; the first is taken where a caller names none. ``others``: the same models on further
        devices. ``store``: one that several services share. ``makes_jobs``: whether queued jobs are made here. Raises
        :class:`ConfigError`."""
        self.options, self.models, self._makes_jobs = options, models, makes_jobs
        self.places = Places([models, *others], options.device_names)
        self.keys = keys_for(options)
        if options.marks.c2pa_cert is not None and options.marks.c2pa_key is not None:
            # Now rather than after the first video.
            FileSigner(options.marks.c2pa_cert, options.marks.c2pa_key, "emo_rt")
        limits = options.limits
        self.metrics = Metrics()
        self.decoders = Decoders(limits)
        self._exit = ExitStack()
        self.store = self._exit.enter_context(store or Store(options.folder, keep_s=3_600 * limits.keep_hours))
        self.avatars = Avatars(self.store)
        self.quotas = Quotas(limits, self.store)
        self.runner = Runner(self.store, self.places, self.avatars, self._job_ended, options.marks)
        self.live = set[Restartable]()
        """Open live connections; touched in the event loop only."""
        self.is_draining = False
        self.is_warm = False
        self._uploads = anyio.CapacityLimiter(UPLOADS_AT_ONCE)
        self._talking = set[LiveSession]()
        self._talking_lock = threading.Lock()
        self._warming = threading.Thread(target=self._warm_up, name="emo_rt serve: warm-up", daemon=True)
        self.metrics.watch(self._gauges, self._live_stats)

    # Life

    def start(self) -> None:
        """Warm the models, then make jobs, in threads."""
        self._warming.start()

    def _warm_up(self) -> None:
        self.decoders.warm()
        for place in self.places:
            for name, animator in place.models.items():
                if self.is_draining:
                    return
                try:
                    animator.warmup()
                except Exception as exc:  # noqa: BLE001 - nothing would ever be made, so nobody must wait for it
                    self.runner.lost = f"{name} cannot run on {place.name}: {exc}"
                    event("warming failed", level=logging.ERROR, model=name, device=place.name, reason=str(exc))
                    return
        self.is_warm = True
        event("ready", models=list(self.models))
        if self._makes_jobs:
            self.runner.start()

    async def drain(self) -> None:
        """Take nothing new; tell the live sessions; let the running job finish or put it back."""
        self.is_draining = True
        event("draining", live=len(self.live))
        for connection in list(self.live):
            connection.restart()
        for _ in range(round(10 * GOODBYE_S)):
            if not self.live:
                break
            await asyncio.sleep(0.1)
        await asyncio.to_thread(self.runner.drain, self.options.limits.drain_seconds)
        self.runner.signal.tell()

    def close(self) -> None:
        """Stop everything; running jobs go back to the queue. Safe twice."""
        self.is_draining = True
        if self._warming.is_alive():
            self._warming.join()
        self.runner.close()
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Health

    @property
    def trouble(self) -> str | None:
        """Why this process is of no use any more."""
        return self.runner.lost

    def note_error(self, exc: EmoRtError) -> None:
        """A device that is gone for good is remembered: nothing but a new process helps."""
        if isinstance(exc, DeviceLostError):
            self.runner.lost = str(exc)

    def require_working(self) -> None:
        """Raise :class:`ApiError` 503 while nothing new is taken."""
        if self.is_draining:
            raise ApiError(503, "server_restarting", "the server ends now; try again in a moment", retry_after_s=5)
        if self.trouble is not None:
            raise ApiError(503, "device_lost", f"the device has failed: {self.trouble}", retry_after_s=30)

    # What is asked for

    def model(self, name: str | None) -> tuple[str, Animator]:
        """A loaded model. Raises :class:`ApiError` 400."""
        found = name or next(iter(self.models))
        if found not in self.models:
            message = f"model is {found!r}; expected one of {', '.join(self.models)}"
            raise ApiError(400, "model_not_found", message, param="model")
        return found, self.models[found]

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with an upload in a thread, without taking those of quick requests."""
        return await anyio.to_thread.run_sync(work, limiter=self._uploads)

    def submit(self, asked: Submission, owner: str, *, is_sync: bool = False) -> Job:
        """Decode the uploads and queue a job; blocks for a moment. Raises :class:`ApiError`; nothing is kept then."""
        self.require_working()
        name, animator = self.model(asked.model)
        self._check(asked, animator)
        checked_request(animator, asked.options)
        record = None
        if asked.avatar is not None:
            record = self.avatar_record(asked.avatar, owner, name)
            reject_options(asked.options, (PrepareOptions,), OF_AVATAR, "extra_params")
        video_id = new_id("video")
        with self.quotas.place_in_queue(owner), self.store.incoming(video_id) as incoming:
            decoded = self.decode(incoming, asked.picture, asked.sound, asked.seconds)
            picture = (decoded.width, decoded.height) if record is None else (record.width, record.height)
            options, square = dict(asked.options), animator.config.size
            if asked.size is not None:
                options |= options_for(asked.size, picture, square, is_fixed=record is not None)
                checked_request(animator, options)
            fps = animator.config.fps
            frames = frame_count(16_000 * decoded.samples // decoded.sample_rate, fps)
            job = Job(
                id=video_id,
                owner=owner,
                model=name,
                created_at=self.store.time(),
                prompt=asked.prompt,
                options=options,
                sample_rate=decoded.sample_rate,
                avatar=asked.avatar,
                size=likely_size(options, picture, square),
                seconds=f"{frames / fps:.2f}",
                is_sync=is_sync,
                bytes=sum(entry.stat().st_size for entry in incoming.iterdir()),
            )
            self.store.add(job, incoming)
        event("job queued", job=job.id, key=owner or None)
        note_job_of_request(job.id)
        self.runner.wake()
        return job

    def _check(self, asked: Submission, animator: Animator) -> None:
        if asked.sound is None:
            message = "there is no sound; send a file as audio, or audio_reference"
            raise ApiError(400, "missing_field", message, param="audio")
        if (asked.picture is None) == (asked.avatar is None):
            message = "expected one of input_reference, image_reference and avatar"
            raise ApiError(400, "missing_field", message, param="input_reference")
        if asked.fps not in (None, animator.config.fps):
            message = f"fps is {asked.fps}; this model makes {animator.config.fps}"
            raise ApiError(400, "invalid_value", message, param="fps")

    def delete(self, job: Job) -> None:
        """Cancel a job and remove all of it."""
        self.store.delete(job)
        if not self.runner.cancel(job):
            self.store.remove_files(job)
        self.runner.signal.tell()

    def avatar_record(self, name: str, owner: str, model: str | None = None) -> AvatarRecord:
        """Raises :class:`ApiError` 404 for one that this owner does not have, 400 for one of another model."""
        record = self.store.avatar(name, owner)
        if record is None:
            raise ApiError(404, "avatar_not_found", f"there is no avatar {name[:80]}", param="avatar")
        if model not in (None, record.model):
            message = f"the avatar is for the model {record.model}, not for {model}"
            raise ApiError(400, "wrong_model", message, param="avatar")
        return record

    def add_avatar(self, picture: Upload, model: str | None, options: dict[str, object], name: str | None, owner: str
                   ) -> AvatarRecord:  # fmt: skip
        """Decode, prepare and keep a portrait. Raises :class:`ApiError`; nothing is kept then."""
        self.require_working()
        chosen, animator = self.model(model)
        reject_options(options, (AnimateOptions, VideoOptions), "say it when the avatar speaks", "options")
        request = checked_request(animator, options, "options")
        self.quotas.check_storage(owner)
        record = AvatarRecord(new_id("avatar"), owner, chosen, self.store.time(), name, options)
        with self.store.incoming(record.id) as incoming:
            self.decode(incoming, picture, None, None)
            animator = self.places.by_load()[0].models[chosen]
            return self.avatars.add(record, incoming, request.prepare, animator)

    def delete_avatar(self, record: AvatarRecord) -> None:
        """Jobs that wait for it will fail."""
        self.store.delete(record)
        self.avatars.forget(record)
        self.store.remove_files(record)

    def session_begun(self, session: LiveSession) -> None:
        """A live session was opened."""
        with self._talking_lock:
            self._talking.add(session)

    def session_ended(self, session: LiveSession, place: Place) -> None:
        """A live session was closed. Safe twice."""
        with self._talking_lock:
            if session not in self._talking:
                return
            self._talking.remove(session)
        self.places.leave(place)

    def decode(self, incoming: Path, picture: Upload | None, sound: Upload | None, seconds: float | None) -> Decoded:
        """The arrays in ``incoming``; the uploads themselves are gone."""
        uploads = {UPLOADED_PICTURE: picture, UPLOADED_SOUND: sound}
        for name, upload in uploads.items():
            if upload is not None:
                upload.save(incoming / name)
        cut = None if seconds is None else min(seconds, self.options.limits.max_seconds)
        has = {"has_picture": picture is not None, "has_sound": sound is not None}
        decoded = self.decoders.run(self.decoders.order(incoming, **has, cut_seconds=cut))
        for name in uploads:
            (incoming / name).unlink(missing_ok=True)
        return decoded

    # Metrics

    def _job_ended(self, job: Job, status: str, stages: Mapping[str, float]) -> None:
        self.metrics.note_job(status, stages)

    def _live_stats(self) -> list[LiveStats]:
        with self._talking_lock:
            talking = list(self._talking)
        return [session.stats for session in talking]

    def _gauges(self) -> dict[str, dict[str, float]]:
        held, used = Counter[str](), {}
        for place in self.places:
            for name, animator in place.models.items():
                stats = animator.memory_stats()
                held[name] += stats["runs"] + stats["kept"] + stats["avatars"]
                if "device_used" in stats:
                    used[place.name] = stats["device_used"]
        return {
            "queue_jobs:status": {status: float(n) for status, n in self.store.counts().items()},
            "live_sessions": {"": float(self.quotas.sessions)},
            "storage_bytes": {"": float(self.store.used_bytes())},
            "ready": {"": float(self.is_warm and not self.is_draining)},
            "model_memory_bytes:model": {name: float(n) for name, n in held.items()},
            "device_used_bytes:device": {name: float(n) for name, n in used.items()},
        }
