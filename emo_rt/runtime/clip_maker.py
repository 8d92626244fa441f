"""The scheduler's side of a session: how its clips are made, one slice after the other."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from emo_rt.device.buffers import Buffers
from emo_rt.errors import Cancelled, InputError, NotFiniteError
from emo_rt.model.contract import Array
from emo_rt.model.families.base import ClipState, Plan
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.clips import ClipSound, Encoded, clip_sounds, noise_for_clip
from emo_rt.runtime.outbox import Outbox
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.scheduler import Landing, Order, Scheduler, whole
from emo_rt.runtime.stages import Chunk, Control, Progress, Watch
from emo_rt.runtime.worker_base import BaseWorker, Slice, Slot

logger = logging.getLogger(__name__)

CLIPS_UNDER_WAY = 4
"""Clips that may be begun and not yet taken, one for each stage: a slow taker holds back its session and no other."""


@dataclass(eq=False)
class BegunClip:
    """A clip that is being denoised."""

    sound: ClipSound
    worker: BaseWorker
    slot: Slot
    steps: int
    slices: Iterator[Slice]


class ClipMaker:
    """A :class:`emo_rt.runtime.scheduler.Job` that turns sound into chunks. An error of any stage is its own."""

    _scheduler: Scheduler

    def __init__(
        self, runtime: Runtime, avatar: Avatar, options: AnimateOptions, control: Control, clips: int | None
    ) -> None:
        """``clips``: how many there will be, if that is known."""
        self.priority: float = 0
        """A session of higher priority gets the device first; it interrupts a clip between two slices."""
        self.deadline: float | None = None
        """When its first frame is due, in seconds of ``time.monotonic()``; later clips are due in the video's pace."""
        self.turn = 0
        """When it was served last; the scheduler's."""
        self.avatar, self._asked = avatar, options
        self._model, self._control, self._clips = avatar.model.for_run(options), control, clips
        self.options = self._model.resolve(options)
        """What it was asked for, with the model's own in the place of what is open."""
        self._config = self._model.config
        self._watch = Watch(control.trace)
        self._sounds, self._outbox, self._encoded = clip_sounds(self._config), Outbox(), Encoded()
        self._under_way = self._delivered = self._users = 0
        self._wants_stop = self._is_closed = False
        self._released = threading.Event()
        self._clip: BegunClip | None = None
        self._state: Buffers | None = None
        self._video_frames = 0
        self._runtime, self._pool = runtime, runtime.workers(self._model)
        self._leave_pool: Callable[[], None] = lambda: None

    def _prepare(self) -> None:
        """Open and tabulate what all clips need."""
        self._leave_pool = self._pool.enter()
        self._model.open_graphs(self._asked)
        tabulate = partial(self._model.step_table, self._asked)
        self._table, self._guidance = self._scheduler.call(whole(tabulate), self.priority)
        self._features = self._features_of(self.options.variant)
        self._paster = self.avatar.paster if self.avatar.is_pasted_back(self.options.paste_back) else None

    def _features_of(self, variant: str) -> Buffers:
        """The avatar's features for a variant of the weights, made now where nobody has asked for them before."""
        return self.avatar.features_of(variant, lambda slices: self._scheduler.call(slices, self.priority))

    def check_wanted(self) -> None:
        """Raise :class:`Cancelled` if the caller asked to stop."""
        cancel = self._control.cancel
        if self._wants_stop or (cancel is not None and cancel.is_set()):
            raise Cancelled("the animation was cancelled")

    def order(self) -> Order | None:
        """Where it stands in the queue; see :class:`emo_rt.runtime.scheduler.Job`."""
        with self._outbox.changed:
            if not self._outbox.is_over and self._clip is None:
                if not self._can_begin():
                    return None
                if not self._pool.can_lend(self._table, self.priority):
                    return None
            elif self._clip is None:
                return None
            return -self.priority, self._clip is None, self._due(), self.turn

    def advance(self) -> Landing | None:
        """Begin the next clip, or enqueue the next slice of the one that was begun."""
        with self._in_use():
            try:
                self.check_wanted()
                if self._outbox.is_over:
                    self._drop_clip()
                elif self._clip is None:
                    self._begin()
                else:
                    return self._next_slice(self._clip)
            except BaseException as exc:  # noqa: BLE001 - it ends this session and no other
                self._drop_clip()
                self._fail(exc)
        return None

    def _can_begin(self) -> bool:
        """Whether there is sound for another clip, and a place for it."""
        return self._sounds.waiting > 0 and self._under_way < CLIPS_UNDER_WAY

    def _due(self) -> float:
        if self.deadline is None:
            return math.inf
        return self.deadline + self._sounds.index * self._config.frames / self._config.fps

    def _begin(self) -> None:
        """Take the sound of the next clip and hear it, on a worker that is lent for the clip."""
        sound = self._take_sound()
        plan = self._plan(sound)
        noise = self._noise(sound.index, plan) if plan.step else np.zeros(0, np.float32)
        self._clip = clip = self._lent(sound, noise)
        worker, slot = clip.worker, clip.slot
        worker.load(self._features, self.options.constants)
        if self._state is None:
            self._state, self._video_frames = self._pool.take_state(self._model, plan.frames), plan.frames
        self._set_motion(worker, plan, self._state)
        worker.begin(plan, self._state, lambda: self._encoded.windows(sound, self._hear), slot)

    def _lent(self, sound: ClipSound, noise: Array) -> BegunClip:
        """The clip on a worker, which goes back where that fails: others would wait for it for ever."""
        worker = self._pool.take(self._model, self._table, self._features, self.priority)
        with ExitStack() as lent:
            lent.callback(self._pool.give_back, worker)
            slot = worker.take_slot()
            lent.callback(worker.free, slot)
            clip = BegunClip(
                sound, worker, slot, self._table.steps, worker.denoise(self._table, noise, self._guidance, slot)
            )
            lent.pop_all()
            return clip

    def _plan(self, sound: ClipSound) -> Plan:
        family = self._model.family
        return family.plan(ClipState(sound.index, len(sound.rows) if family.is_whole_video else 0))

    def _take_sound(self) -> ClipSound:
        with self._outbox.changed:
            self._under_way += 1
            return self._sounds.take()

    def _set_motion(self, worker: BaseWorker, plan: Plan, state: Buffers) -> None:
        """The motion frames in front of a clip, unless they are there, or the family knows none."""
        if plan.motion in ("zeros", "portrait"):
            worker.begin_motion(plan.motion, self._features, state["motion_latents"])

    def _hear(self, waveform: Array) -> Array:
        assert self._clip is not None
        with self._watch.timed("audio"):
            return self._clip.worker.hear(waveform)

    def _noise(self, index: int, plan: Plan) -> Array:
        """Of a clip and of the frames around it that it is made with, or of a whole video.

        Every frame has its own noise, in whatever clip it is computed. Before the first clip it is that clip's again.
        """
        (before, behind), limit = plan.around, self._model.family.noise_limit
        parts = [self._noise_of(index, plan.frames)]
        if before:
            parts.insert(0, self._noise_of(max(index - 1, 0), 0)[-before:])
        if behind:
            parts.append(self._noise_of(index + 1, 0)[:behind])
        noise: Array = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return noise if limit is None else noise.clip(-limit, limit)

    def _noise_of(self, index: int, video_frames: int) -> Array:
        config = self._config
        shape = (video_frames or config.frames, config.vae.latent_channels, config.latent_size, config.latent_size)
        if self._control.noise is None:
            noise: Array = noise_for_clip(self.options.seed, index, shape)
        else:
            noise = np.asarray(self._control.noise(index), np.float32)
        if noise.shape != shape:
            raise InputError(f"noise of clip {index} has shape {noise.shape}; expected {shape}")
        return noise

    def _next_slice(self, clip: BegunClip) -> Landing:
        made = next(clip.slices)
        if made.steps == clip.steps:
            self._finish(clip)
        self._enter()
        return partial(self._land, made, clip)

    def _finish(self, clip: BegunClip) -> None:
        """The latents are enqueued: keep the motion frames and give the worker back."""
        assert self._state is not None
        clip.worker.finish(clip.slot, self._state)
        self._watch.stats.loop = clip.worker.denoiser.description
        self._clip = None
        self._pool.give_back(clip.worker)
        if not self._model.family.hearing.is_whole_file or self._sounds.is_done:  # no other clip hears the same
            self._encoded.forget()

    def _land(self, made: Slice, clip: BegunClip) -> None:
        """Wait for a slice and tell its progress; after the last one the latents are decoded."""
        is_last = made.steps == clip.steps
        with self._leaving():
            try:
                made.done.synchronize()
                self._tell(clip, made)
                if is_last and not self._outbox.is_over:
                    self._to(self._scheduler.decoding.put, partial(self._decode, clip))
                elif is_last:
                    clip.worker.free(clip.slot)
            except BaseException as exc:  # noqa: BLE001 - it ends this session and no other
                if is_last:
                    clip.worker.free(clip.slot)
                self._fail(exc)

    def _tell(self, clip: BegunClip, made: Slice) -> None:
        if self._outbox.is_over:
            return
        is_whole, index = self._model.family.is_whole_video, clip.sound.index
        if self._control.progress is not None and not (is_whole and index):  # a video's other clips were made with it
            clips = 1 if is_whole else self._clips
            self._control.progress(Progress(index, clips, made.steps, clip.steps, made.part))
        self.check_wanted()

    # The lanes' side

    def _decode(self, clip: BegunClip) -> None:
        try:
            if self._is_wanted(clip):
                self._decoded(clip)
        finally:
            clip.worker.free(clip.slot)

    def _is_wanted(self, _: BegunClip) -> bool:
        """Whether somebody waits for its pictures."""
        return not self._outbox.is_over

    def _decoded(self, clip: BegunClip) -> None:
        self._hand_on(np.concatenate(list(self._pictures(clip))), clip.sound.index)

    def _pictures(self, clip: BegunClip) -> Generator[Array, None, None]:
        """Part by part; the latents are looked at before the first of them."""
        index, is_checked = clip.sound.index, False
        with closing(clip.worker.decode(clip.slot, clip.sound.frames)) as parts:
            for part in parts:
                if not is_checked:
                    check_finite(clip.worker.latents(clip.slot), self._table.graphs, index)
                    is_checked = True
                yield part
        self._watch.note(index, clip.worker.times(clip.slot))

    def _hand_on(self, frames: Array, index: int, row: int = 0) -> None:
        """Pictures of a clip, from its frame ``row`` on, to whoever takes them; pasted, where that is wanted."""
        chunk = Chunk(frames, (index * self._config.frames + row) / self._config.fps, index)
        if self._paster is None:
            self._deliver(chunk)
        else:
            self._to(self._scheduler.pasting.put, partial(self._paste, chunk))

    def _paste(self, chunk: Chunk) -> None:
        assert self._paster is not None
        if not self._outbox.is_over:
            with self._watch.timed("paste"):
                frames = self._paster(chunk.frames)
            self._deliver(Chunk(frames, chunk.start_s, chunk.index))

    def _deliver(self, chunk: Chunk) -> None:
        with self._outbox.changed:
            self._watch.stats.frames += len(chunk.frames)
            self._outbox.put(chunk)
            self._delivered += 1
            if self._sounds.is_done and self._delivered == self._sounds.index:
                self._outbox.end()

    # Who is using it

    def _to(self, put: Callable[[Callable[[], None]], None], job: Callable[[], None]) -> None:
        """Hand a job to a lane. Whatever the job raises ends this session, and not the lane's thread."""
        self._enter()
        try:
            put(partial(self._do, job))
        except BaseException:
            with self._leaving():
                raise

    def _do(self, job: Callable[[], None]) -> None:
        with self._leaving():
            try:
                job()
            except BaseException as exc:  # noqa: BLE001 - it ends this session and no other
                self._fail(exc)
        self._scheduler.wake()

    def _enter(self) -> None:
        with self._outbox.changed:
            self._users += 1

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """The end of what :meth:`_enter` began: the last to leave a closed session gives everything back."""
        try:
            yield
        finally:
            with self._outbox.changed:
                self._users -= 1
                is_last = self._users == 0 and self._is_closed
            if is_last:
                try:
                    self._release()
                except Exception:  # in a thread that all sessions share
                    logger.exception("a closed session could not give everything back")

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        self._enter()
        with self._leaving():
            yield

    def _drop_clip(self) -> None:
        with self._outbox.changed:
            clip, self._clip = self._clip, None
        if clip is not None:
            clip.worker.free(clip.slot)
            self._pool.give_back(clip.worker)

    def _release(self) -> None:
        """Nobody uses it any more. What fails in it keeps nobody waiting."""
        state, self._state = self._state, None
        leave, self._leave_pool = self._leave_pool, lambda: None
        with ExitStack() as parts:
            parts.callback(self._released.set)
            parts.callback(leave)
            if state is not None:
                parts.callback(self._pool.give_back_state, state, self._video_frames)
            parts.callback(self._encoded.forget)
            parts.callback(self._drop_clip)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # raised by __next__, it would look like the regular end
            wrapped = RuntimeError("a callback raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        self._outbox.fail(error)
        self._scheduler.wake()


def check_finite(latents: Array, graphs: Sequence[str], clip: int) -> None:
    """Raise :class:`NotFiniteError` unless all latents of a clip are finite. ``graphs``: that have made them."""
    wrong = int(np.count_nonzero(~np.isfinite(latents)))
    if wrong:
        raise NotFiniteError(
            f"clip {clip}: {wrong} of {latents.size} latents that graph {', '.join(sorted(set(graphs)))} computed are "
            "not finite, so there is no picture; export in fp32, or use less guidance"
        )
