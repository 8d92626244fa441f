"""One talker: sound in, finished clips out, and what must survive between two clips.

A session has no thread, and of the device's memory only its motion frames. The scheduler asks it for slices: it takes
the sound of the next clip, is lent a worker for that clip, and hands the finished latents to the lanes that decode and
paste, which put the pictures into its outbox. An error of any of them is this session's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from emo_rt.checks import check, within
from emo_rt.errors import Cancelled, InputError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, Resampler, check_duration
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.model.families.registry import family_of
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.clip_maker import ClipMaker
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.scheduler import check_priority
from emo_rt.runtime.stages import Chunk, Control, RunStats

CLIPS_WAITING = 2
"""Clips whose sound waits, from which on :attr:`Session.has_room` is false."""


class Session(ClipMaker):
    """One talker. A context manager, and an iterator of :class:`Chunk`; ``async for`` works, too.

    Made by :meth:`emo_rt.Animator.open_session`. :meth:`push` sound as it comes, :meth:`end` it, take the chunks. Each
    method may be called from any thread; the chunks are those of one video, so one taker is enough. Frames are those
    that :meth:`emo_rt.Animator.animate` makes of the same sound, however it is cut. Close the avatar after its
    sessions.
    """

    def __init__(
        self,
        runtime: Runtime,
        avatar: Avatar,
        options: AnimateOptions,
        control: Control,
        *,
        priority: float = 0,
        deadline: float | None = None,
        sample_rate: int = AUDIO_SAMPLE_RATE,
        clips: int | None = None,
    ) -> None:
        """Use :meth:`emo_rt.Animator.open_session`. ``clips``: how many there will be, if that is known."""
        check_priority(priority)
        check(deadline is None or within(deadline, 0, 1e18), "deadline", deadline, "seconds of time.monotonic()")
        super().__init__(runtime, avatar, options, control, clips)
        self.priority, self.deadline = priority, deadline
        self._resampler, self._received = Resampler(sample_rate), 0
        own = self._model.family.longest_s
        self._longest_s = own if options.max_audio_s is None else options.max_audio_s
        self._has_ended = self._has_left = False
        self._open()

    def _open(self) -> None:
        self._scheduler = self._runtime.enter(self)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise
        self._scheduler.add(self)

    @property
    def stats(self) -> RunStats:
        """Times so far."""
        return self._watch.stats

    @property
    def nbytes(self) -> int:
        """Memory that is its own now: motion frames and the sound that later clips hear."""
        state = self._state
        return self.sound_nbytes + (0 if state is None else state.nbytes)

    @property
    def sound_nbytes(self) -> int:
        """Memory of the sound alone, and of what was heard of it."""
        return 0 if self._is_closed else self._sounds.nbytes + self._encoded.nbytes

    @property
    def has_room(self) -> bool:
        """Whether more sound can be used soon. :meth:`push` takes it anyway; it waits in memory then."""
        with self._outbox.changed:
            return self._sounds.waiting < CLIPS_WAITING

    # The talker's side

    def push(self, pcm: Array) -> None:
        """Sound that has come: (n,) or (n, channels), float in −1 … 1, int16 or int32. Never waits.

        Raises :class:`AudioError`, also where ``max_audio_s`` is passed, :class:`Cancelled`, :class:`ClosedError`, and
        what has ended the session. Sound that is refused is not taken.
        """
        samples = np.asarray(pcm)
        with self._outbox.changed:
            self._require_talking()
            self._check_length(samples)
            self._sounds.push(self._resampler.push(samples))
            self._received += len(samples)
        self._scheduler.wake()

    def end(self) -> None:
        """No more sound will come. Safe twice. Raises what has ended the session."""
        with self._outbox.changed:
            if self._has_ended:
                return
            self._require_talking()
            self._has_ended = True
            self._sounds.push(self._resampler.flush())
            if self._sounds.received:
                self._sounds.end()
            else:
                self._outbox.end()
        self._scheduler.wake()

    def cancel(self) -> None:
        """Stop after the present slice; whoever takes chunks gets a :class:`Cancelled`. Safe twice."""
        self._wants_stop = True
        self._fail(Cancelled("the animation was cancelled"))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """The next chunk; waits for it. Raises what has ended the session."""
        if self._scheduler.is_current() and not self._outbox.ready():
            raise InputError("a callback of a session must not wait for chunks: it would wait for itself")
        self._outbox.wait(self._poll())
        return self._taken()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk, without blocking the event loop."""
        await self._outbox.wait_async(self._poll())
        try:
            return self._taken()
        except StopIteration:
            raise StopAsyncIteration from None

    def finished(self) -> Iterator[Chunk]:
        """The chunks that are there already, without waiting. Raises what has ended the session."""
        while self._outbox.waiting() or self._outbox.is_over:
            yield self._taken()

    def close(self) -> None:
        """Stop after the present slice, wait for that, and give everything back. Safe twice.

        From a callback it does not wait: what is left is given back when the callback returns.
        """
        with self._outbox.changed:
            is_first, self._is_closed = not self._is_closed, True
            is_idle = self._users == 0
            self._outbox.close()
        if is_first:
            self._scheduler.remove(self)
            if is_idle:
                self._release()
        if not self._scheduler.is_current():
            self._released.wait()
        with self._outbox.changed:
            has_left, self._has_left = self._has_left, True
        if not has_left:
            self._runtime.leave(self._scheduler, self)
        elif self._scheduler.is_closing:
            self._scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_talking(self) -> None:
        self._outbox.raise_error()
        self.check_wanted()
        if self._has_ended:
            raise InputError("the sound of this session has ended; open another session for the next one")

    def _check_length(self, samples: Array) -> None:
        if self._longest_s is not None and samples.ndim:
            seconds = (self._received + len(samples)) / self._resampler.sample_rate
            check_duration("the stream", seconds, self._longest_s)

    def _taken(self) -> Chunk:
        with self._outbox.changed:
            chunk = self._outbox.take()
            self._under_way -= 1
        self._scheduler.wake()
        return chunk

    def _poll(self) -> Callable[[], None] | None:
        """What a waiting taker looks at: an event of the caller's wakes nobody."""
        return None if self._control.cancel is None else self.check_wanted


def session_bytes(config: ModelConfig) -> int:
    """Most memory of an idle session: motion frames, and twice the sound of a window, which is cut once it has doubled.

    That of a model that hears whole files grows with the sound, 64 kB a second, and with its hidden states; that of one
    that makes a video at once with its latents, too: twice 94 MB a minute at 512 pixels and 24 frames per second.
    """
    latents = config.motion_frames * config.vae.latent_channels * config.latent_size**2
    hearing = family_of(config).hearing
    heard = 0 if hearing.is_whole_file else hearing.samples
    return 4 * (latents + 2 * heard)
