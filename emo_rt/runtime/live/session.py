"""A face in a conversation: sound is pushed as it comes, pairs of picture and sound come out for ever."""

from __future__ import annotations

import asyncio
from typing import Self

import numpy as np

from emo_rt.errors import ClosedError, InputError, QueueFull
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.samples import as_columns
from emo_rt.model.contract import Array
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.live.clock import Clock
from emo_rt.runtime.live.conductor import Conductor
from emo_rt.runtime.live.ladder import Ladder
from emo_rt.runtime.live.maker import LiveMaker
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.settings import LiveSettings
from emo_rt.runtime.live.stats import LiveStats
from emo_rt.runtime.live.warming import wait_until, warm
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.stages import Control
from emo_rt.schema.option import require_type


class LiveSession:
    """A face that listens, speaks, idles and can be interrupted. Made by :meth:`emo_rt.Animator.live`; close it.

    :meth:`push` the voice as it comes, :meth:`flush` at the end of what is said, :meth:`clear` when the listener
    interrupts. Iterating, with ``for`` or ``async for``, gives a :class:`LivePair` for each frame until the session is
    closed. The iteration drives everything: take pairs all the time, in one thread or task; the other methods may be
    called from any. While nobody takes pairs, nothing is computed. A context manager, also for ``async with``.
    """

    def __init__(
        self,
        runtime: Runtime,
        avatar: Avatar,
        options: AnimateOptions,
        control: Control,
        settings: LiveSettings,
        *,
        priority: float = 0,
        clock: Clock | None = None,
    ) -> None:
        """Use :meth:`emo_rt.Animator.live`."""
        require_type("clock", clock, Clock)
        self.settings = settings
        """As it was asked for."""
        self._clock = clock or Clock()
        self._is_closed = False
        self._clears = 0
        self._admission = runtime.admission
        self._maker = LiveMaker(runtime, avatar, options, control, clock=self._clock, priority=priority)
        self._signal = self._maker.signal
        try:
            self._begin(avatar)
        except BaseException:
            self.close()
            raise

    def _begin(self, avatar: Avatar) -> None:
        """Warm every rung, ask for admission, and make the first clip."""
        maker, config = self._maker, self._maker.config
        costs = self._admission.costs(avatar.model)
        self._clip_s = config.frames / config.fps
        self._ladder = Ladder(maker.rungs, costs, self._clip_s, lambda: self._admission.beside(self))
        self._conductor = conductor = Conductor(config, self.settings, maker, self._ladder)
        self._size = self._frame_size(avatar)
        warm(maker, costs, conductor.first_silence, self._clock, self._clip_s)
        self._ladder.begin()
        self._admission.enter(self)
        maker.made = conductor.made
        with self._signal.changed:
            conductor.prepare(self._clock.now())
        maker.wake()
        wait_until(lambda: not maker.making, maker, self._clock)  # all of it: a restart continues N frames

    def _frame_size(self, avatar: Avatar) -> tuple[int, int]:
        if not avatar.is_pasted_back(self._maker.options.paste_back):
            return avatar.model.config.size, avatar.model.config.size
        height, width = avatar.portrait.picture.shape[:2]
        return width, height

    # The talker's side

    def push(self, pcm: Array) -> None:
        """Sound of the present utterance, or the start of the next: (n,) float in −1 … 1 or int16, of any length.

        Waits while the queue is full, or raises :class:`QueueFull` and takes nothing, as the settings say. Whoever
        takes pairs in the same thread must not wait here: use ``when_full="raise"`` or :meth:`push_async`. What waits
        when :meth:`clear` is called is forgotten. Raises :class:`AudioError`, :class:`ClosedError`, and what has ended
        the session.
        """
        rest, clears = as_columns(np.asarray(pcm)), self._clears
        while True:
            rest, seen = self._push_some(rest, clears)
            if not len(rest):
                return
            self._signal.wait(seen, None)

    async def push_async(self, pcm: Array) -> None:
        """As :meth:`push`; waits without blocking the event loop."""
        rest, clears = as_columns(np.asarray(pcm)), self._clears
        while True:
            rest, seen = self._push_some(rest, clears)
            if not len(rest):
                return
            await self._signal.wait_async(seen, None)

    def flush(self) -> None:
        """The utterance is complete: its last frame is finished with silence. Without sound since the last, nothing."""
        with self._signal.changed:
            self._require_open()
            self._conductor.voice.flush()
            self._signal.tell()

    def clear(self) -> float:
        """Interrupt: forget all sound that was not given, and close the mouth within one clip.

        From now on every pair is silent until something is pushed. The head goes on without a jump. Returns the seconds
        of the interrupted utterance that were given; 0 if there was none.
        """
        with self._signal.changed:
            self._require_open()
            self._clears += 1
            played = self._conductor.clear(self._clock.now())
            must_wake = self._conductor.take_composed()
            self._signal.tell()
        if must_wake:
            self._maker.wake()
        return played

    def _push_some(self, pcm: Array, clears: int) -> tuple[Array, int]:
        """Take what there is room for; gives the rest, and the version of the signal to wait behind."""
        with self._signal.changed:
            self._require_open()
            voice, settings = self._conductor.voice, self.settings
            seen = self._signal.version
            if clears != self._clears:
                return pcm[:0], seen
            room = int((settings.queue_s - voice.seconds) * settings.sample_rate)
            if settings.when_full == "raise" and len(pcm) > room:
                raise QueueFull(
                    f"{len(pcm) / settings.sample_rate:.2f} s of sound are pushed, and {voice.seconds:.2f} s wait; at "
                    f"most {settings.queue_s:g} s may wait (queue_s). Push less, or later"
                )
            now = pcm[: max(room, 0)]
            if len(now) or not len(pcm):
                voice.push(now, self._clock.now())
                self._signal.tell()
            return pcm[len(now) :], self._signal.version

    def _require_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the live session was closed; open another")
        self._maker.raise_error()

    # The viewer's side

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LivePair:
        """The next pair; waits for it. Ends when the session is closed. Raises what has ended it."""
        if self._maker.is_in_callback:
            raise InputError("a callback of a live session must not wait for pairs: it would wait for itself")
        while True:
            found, seen = self._poll()
            if isinstance(found, LivePair):
                return found
            if found is None:
                raise StopIteration
            self._clock.wait(self._signal, seen, found)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LivePair:
        """The next pair, without blocking the event loop."""
        while True:
            found, seen = self._poll()
            if isinstance(found, LivePair):
                return found
            if found is None:
                raise StopAsyncIteration
            await self._clock.wait_async(self._signal, seen, found)

    def _poll(self) -> tuple[LivePair | float | None, int]:
        """The pair that is due, the time at which to ask again, or ``None`` at the end; and the signal's version."""
        with self._signal.changed:
            if self._is_closed:
                return None, 0
            self._maker.raise_error()
            found = self._conductor.advance(self._clock.now())
            must_wake = self._conductor.take_composed()
            if isinstance(found, LivePair):
                self._signal.tell()  # there may be room in the queue
            seen = self._signal.version
        if must_wake:
            self._maker.wake()
        return found, seen

    @property
    def fps(self) -> int:
        """Frames per second."""
        return self._conductor.fps

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self._size

    @property
    def stats(self) -> LiveStats:
        """How it does now."""
        with self._signal.changed:
            conductor, ladder = self._conductor, self._ladder
            fps = self._conductor.fps
            return LiveStats(
                rung=ladder.rung.name,
                rungs=tuple(rung.name for rung in ladder.rungs),
                steps_down=ladder.steps_down,
                steps_up=ladder.steps_up,
                seconds_per_clip={rung.name: ladder.costs.of(rung) for rung in ladder.rungs},
                slowdown=ladder.slowdown,
                is_too_slow=ladder.is_too_slow,
                pairs=conductor.pairs,
                late_frames=conductor.late_frames,
                repeated_frames=conductor.repeated_frames,
                dropped_s=conductor.dropped_frames / fps,
                queued_s=conductor.voice.seconds,
                buffered_s=len(conductor.reel) / fps,
                latency=conductor.latencies.percentiles(),
            )

    # What it costs

    @property
    def nbytes(self) -> int:
        """Memory that is its own on the device, and of the sound that it hears."""
        return self._maker.nbytes

    @property
    def sound_nbytes(self) -> int:
        """Memory of the sound that it hears."""
        return self._maker.sound_nbytes

    @property
    def least_load(self) -> float:
        """Share of the device that it needs on the last rung, as measured lately."""
        last = self._ladder.rungs[-1]
        return self._ladder.costs.of(last) * self._ladder.slowdown / self._clip_s

    @property
    def load(self) -> float:
        """Share of the device that it needs on the present rung."""
        return self._ladder.seconds / self._clip_s

    @property
    def clip_seconds(self) -> float:
        """What a clip takes on the present rung, as measured lately."""
        return self._ladder.seconds

    @property
    def most_bytes(self) -> int:
        """Memory that it may need: latents that are kept, pictures, sound."""
        reel = self._conductor.reel
        frames = self._conductor.frames
        pictures = reel.loop_frames + 3 * frames
        latents = 2 + -(-pictures // frames)
        sound = int(self.settings.queue_s * (self.settings.sample_rate + AUDIO_SAMPLE_RATE)) * 4
        width, height = self._size
        return pictures * 3 * width * height + latents * self._maker.kept.place_nbytes + sound + self._maker.nbytes

    def close(self) -> None:
        """Stop, and give everything back; whoever waits for a pair gets the end. Safe twice."""
        with self._signal.changed:
            self._is_closed = True
            self._signal.tell()
        self._admission.leave(self)
        self._maker.close()

    async def aclose(self) -> None:
        """As :meth:`close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
