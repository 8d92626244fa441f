"""The scheduler's side of a live session: clips of sound that is composed for them, and that may start anew anywhere.

What :class:`emo_rt.runtime.session.Session` does for one sound from its start to its end, this does for any number of
them in a row: :meth:`LiveMaker.restart` leaves out what is under way and continues at any frame that was made before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from emo_rt.device.buffers import Buffers
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.base import Plan
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.clip_maker import BegunClip
from emo_rt.runtime.clips import ClipSound, ClipSounds, clip_sounds
from emo_rt.runtime.live.causal import RunningScale, live_config
from emo_rt.runtime.live.clock import Clock
from emo_rt.runtime.live.costs import Rung
from emo_rt.runtime.live.kept import Kept, KeptLatents, Latent
from emo_rt.runtime.live.pair import SoundFrame
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.scheduler import Landing, Order, whole
from emo_rt.runtime.session import Session
from emo_rt.runtime.signal import Signal
from emo_rt.runtime.stages import Chunk, Control
from emo_rt.runtime.worker_base import BaseWorker

MOTION, RESUMED = "motion_latents", "resumed_latents"


@dataclass(eq=False)
class LiveClip:
    """A clip from the time when its sound is composed, with the times of its stages by the session's clock."""

    index: int
    """Number of the clip since the session began; the key of its noise."""
    frames: int
    """Its frames."""
    rung: Rung
    """The preset that it is made with."""
    composed_at: float
    """When its sound was complete."""
    due: float
    """When its first frame is due."""
    resume: Sequence[Latent] | None = None
    """The N frames that it continues; ``None`` = the clip before it."""
    kept: Kept | None = None
    """Its latents, once they are finished."""
    begun_at: float = 0.0
    heard_at: float = 0.0
    denoised_at: float = 0.0
    made_at: float = 0.0
    """When the last of its pictures came that are there."""
    made: int = 0
    """Its frames whose pictures are there; they come in parts."""
    head_s: float = 0.0
    """Seconds from its begin to its first frame, if it is shown so late that no other comes late."""

    @property
    def is_made(self) -> bool:
        """Whether all its pictures are there."""
        return self.made == self.frames

    @property
    def is_denoised(self) -> bool:
        """Whether only decoding and pasting are left."""
        return self.denoised_at > 0

    @property
    def waited_s(self) -> float:
        """Seconds that it waited for other sessions."""
        return self.begun_at - self.composed_at

    @property
    def seconds(self) -> float:
        """Seconds that making it took."""
        return self.made_at - self.begun_at

    def add(self, pictures: int, now: float, fps: int) -> None:
        """So many more are there."""
        self.head_s = max(self.head_s, now - self.begun_at - self.made / fps)
        self.made, self.made_at = self.made + pictures, now


Made = Callable[[LiveClip, NDArray[np.uint8]], None]


class LiveMaker(Session):
    """Makes the clips of one live session. The owner of the session holds :attr:`signal`'s lock where it says so."""

    def __init__(
        self,
        runtime: Runtime,
        avatar: Avatar,
        options: AnimateOptions,
        control: Control,
        *,
        clock: Clock,
        priority: float = 0,
    ) -> None:
        self._clock = clock
        self.made: Made = lambda clip, pixels: None
        """Takes pictures of a clip as they are made, (n, H, W, 3), in a thread of the scheduler, under the lock."""
        self.making: dict[int, LiveClip] = {}
        """Clips that are composed and not made, by index, in order."""
        self._waiting: deque[LiveClip] = deque()
        self._begun: LiveClip | None = None
        self._sound: ClipSound | None = None
        self._resume: Sequence[Latent] | None = None
        self._next_index = 0
        model = avatar.model.for_run(options)
        config, backend = model.config, model.backend
        self.config = config
        """The model's configuration; its frames are those of a clip."""
        self.heard_config = live_config(config)
        """The model's configuration, with the windows in which it hears."""
        is_scaled = config.audio.normalize and self.heard_config is not config
        self._scale = RunningScale(is_scaled)
        latent = (config.vae.latent_channels, config.latent_size, config.latent_size)
        self.kept = KeptLatents(backend, (config.frames, *latent))
        """Latents of the clips that a restart may continue."""
        self._resumed = Buffers(backend, [TensorSpec(RESUMED, "float32", (config.motion_frames, *latent))])
        self.rungs: list[Rung] = []
        """Presets of the ladder, ready to run, the asked one first."""
        super().__init__(runtime, avatar, options, control, priority=priority)

    def _prepare(self) -> None:
        super()._prepare()
        self._sounds = self._new_sounds()
        own = self.options.preset
        for name in (own, *self._model.bundle.presets[own].ladder):
            options = self._asked.replace(preset=name)
            self._model.open_graphs(options)
            table, guidance = self._scheduler.call(whole(partial(self._model.step_table, options)), self.priority)
            if not any(rung.table is table for rung in self.rungs):
                features = self._features_of(self._model.resolve(options).variant)
                self.rungs.append(Rung(name, table, guidance, features))

    def _new_sounds(self) -> ClipSounds:
        return clip_sounds(self.heard_config)

    @property
    def signal(self) -> Signal:
        """Tells of clips that were made, and of errors."""
        return self._outbox.signal

    @property
    def is_in_callback(self) -> bool:
        """Whether the caller is a callback of one of the scheduler's threads."""
        return self._scheduler.is_current()

    @property
    def is_denoising(self) -> bool:
        """Whether a clip is composed that is not denoised. Under the lock."""
        return any(not clip.is_denoised for clip in self.making.values())

    @property
    def frames_to_come(self) -> int:
        """Frames that are composed and whose pictures are not there. Under the lock."""
        return sum(clip.frames - clip.made for clip in self.making.values())

    @property
    def nbytes(self) -> int:
        """Memory that is its own now."""
        return super().nbytes + self.kept.nbytes + self._resumed.nbytes

    def raise_error(self) -> None:
        """Raise what has ended it, if something has."""
        self._outbox.raise_error()
        self.check_wanted()

    def wake(self) -> None:
        """There is something new to do. Not under the lock."""
        self._scheduler.wake()

    def begin(self, sounds: Sequence[SoundFrame], rung: Rung, now: float, due: float) -> None:
        """The sound that makes one more clip certain. Under the lock; :meth:`wake` afterwards."""
        clip = LiveClip(self._next_index, self.config.frames, rung, now, due, self._resume)
        self._next_index, self._resume = self._next_index + 1, None
        self.making[clip.index] = clip
        self._waiting.append(clip)
        for sound in sounds:
            self._sounds.push(self._scale(sound.heard, is_sound=sound.samples > 0))
        assert self._sounds.waiting == len(self._waiting), "the sound of one clip"

    def restart(self, latents: Sequence[Latent]) -> None:
        """Leave out what is under way; the next clip hears only what is new, and continues N frames. Under the lock."""
        self._forget()
        self._resume = latents

    def reset(self) -> None:
        """As if nothing had been made. Under the lock."""
        self._forget()
        self._resume, self._next_index = None, 0

    def _forget(self) -> None:
        self._sounds = self._new_sounds()
        self._waiting.clear()
        self.making.clear()

    # The scheduler's side

    def order(self) -> Order | None:
        """As every job; the preset is that of the clip which is next."""
        with self._outbox.changed:
            if self._clip is None and self._waiting:
                self._take(self._waiting[0].rung)
            return super().order()

    def _take(self, rung: Rung) -> None:
        """What the next clip is made with."""
        self._table, self._guidance, self._features = rung.table, rung.guidance, rung.features

    def advance(self) -> Landing | None:
        """As every job; a clip that was left out by a restart is dropped."""
        with self._outbox.changed:
            is_stale = self._clip is not None and self._clip.sound.index not in self.making
        if is_stale:
            with self._in_use():
                self._drop_clip()
            return None
        return super().advance()

    def _can_begin(self) -> bool:
        return bool(self._waiting)

    def _due(self) -> float:
        return next((clip.due for clip in self.making.values()), 0.0)

    def _begin(self) -> None:
        with self._outbox.changed:
            if not self._waiting:  # a restart came in between
                return
            self._begun = self._waiting.popleft()
            self._take(self._begun.rung)
            self._begun.begun_at = self._clock.now()
            self._sound = replace(self._sounds.take(), index=self._begun.index)
        super()._begin()

    def _take_sound(self) -> ClipSound:
        assert self._sound is not None
        return self._sound

    def _set_motion(self, worker: BaseWorker, plan: Plan, state: Buffers) -> None:
        assert self._begun is not None
        if self._begun.resume is None:
            super()._set_motion(worker, plan, state)
        else:
            latents = [latent.buffer for latent in self._begun.resume]
            worker.resume_motion(latents, state[MOTION], self._resumed[RESUMED])

    def _hear(self, waveform: Array) -> Array:
        heard = super()._hear(waveform)
        assert self._begun is not None
        self._begun.heard_at = self._clock.now()
        return heard

    def _finish(self, clip: BegunClip) -> None:
        assert self._begun is not None
        self._begun.kept = self.kept.take()
        clip.worker.keep(clip.slot, self._begun.kept.buffer)
        super()._finish(clip)

    def _decode(self, clip: BegunClip) -> None:
        with self._outbox.changed:
            live = self.making.get(clip.sound.index)
            if live is not None:
                live.denoised_at = self._clock.now()
                self.signal.tell()
        super()._decode(clip)

    def _decoded(self, clip: BegunClip) -> None:
        row = 0
        with closing(self._pictures(clip)) as parts:
            for pictures in parts:
                self._hand_on(pictures, clip.sound.index, row)
                row += len(pictures)
                if row < clip.sound.frames and not self._is_wanted(clip):
                    return

    def _is_wanted(self, clip: BegunClip) -> bool:
        return super()._is_wanted(clip) and clip.sound.index in self.making  # unless a restart left it out

    def _deliver(self, chunk: Chunk) -> None:
        with self._outbox.changed:
            self._watch.stats.frames += len(chunk.frames)
            clip = self.making.get(chunk.index)
            if clip is not None:
                clip.add(len(chunk.frames), self._clock.now(), self.config.fps)
                if clip.is_made:
                    del self.making[chunk.index]
                self.made(clip, chunk.frames)
            self.signal.tell()

    def _release(self) -> None:
        self.kept.close()
        self._resumed.close()
        super()._release()
