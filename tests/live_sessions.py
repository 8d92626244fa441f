"""What tests of live sessions share: a small model with a short ladder, sessions by a simulated clock, a talker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from emo_rt import Animator, Avatar, LivePair, LiveSession, Progress, QueueFull
from emo_rt.model.contract import Array
from emo_rt.runtime.live.maker import LiveClip
from tests.simulated_clock import SimulatedClock

T = TypeVar("T")

RATE, FPS, CLIP = 16_000, 25, 4
FRAME = RATE // FPS
CLIP_S = CLIP / FPS
LADDER = {"best": 3, "middle": 2, "last": 1}
"""Presets of the small model, with their steps."""


def with_short_ladder(bundle: Path, target: Path) -> Path:
    """A copy of a bundle with presets of a few steps."""
    copy = Path(shutil.copytree(bundle, target))
    manifest = json.loads((copy / "emo_rt.json").read_text())
    plain = manifest["presets"]["realtime"]
    names = list(LADDER)
    manifest["presets"] = {
        name: {**plain, "solver": "ddim", "steps": steps, "ladder": names[names.index(name) + 1 :]}
        for name, steps in LADDER.items()
    }
    manifest["default_preset"] = "best"
    (copy / "emo_rt.json").write_text(json.dumps(manifest))
    return copy


def forget_costs(animator: Animator) -> None:
    """As if the model were loaded just now: the next session measures what a clip costs."""
    animator._runtime.admission._costs.pop(animator._model, None)


def noise_picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)


def voice(frames: float, seed: int = 1, rate: int = RATE) -> Array:
    """Noise that lasts so many frames."""
    return 0.1 * np.random.default_rng(seed).standard_normal(round(frames * rate / FPS), np.float32)


class Recording:
    """The clips of a session with what they continue and what they became, before anything is cut out of them."""

    def __init__(self, session: LiveSession) -> None:
        self._maker, self._made = session._maker, session._maker.made
        self._maker.made = self._note
        self.clips = dict[int, LiveClip]()
        self.motion = dict[int, Array]()
        """Motion latents of a clip: (N, 4, S, S)."""
        self.latents = dict[bytes, Array]()
        """Latents of each frame, by its pixels."""

    def note_motion(self, clip: int) -> None:
        assert self._maker._state is not None
        self.motion[clip] = self._maker._state["motion_latents"].read().copy()

    def _note(self, clip: LiveClip, pixels: Array) -> None:
        assert clip.kept is not None
        self.clips[clip.index] = clip
        latents = clip.kept.buffer.read()[clip.made - len(pixels) : clip.made]
        for picture, latent in zip(pixels, latents, strict=True):
            self.latents[picture.tobytes()] = latent.copy()
        self._made(clip, pixels)


class Stage:
    """Opens sessions by one simulated clock, and closes them."""

    def __init__(self, animator: Animator, avatar: Avatar, step_s: float = 0.005) -> None:
        self.animator, self.avatar, self.clock = animator, avatar, SimulatedClock(step_s)
        self.sessions = list[LiveSession]()
        self.recording: Recording | None = None

    def record(self, session: LiveSession) -> Recording:
        """From now on note what the model makes for a session, the only one."""
        self.recording = Recording(session)
        return self.recording

    def step(self, progress: Progress) -> None:
        """After each solver step."""
        if self.recording is not None and progress.step == 1:
            self.recording.note_motion(progress.clip)
        self.clock.step(progress)

    def open(self, **options: Any) -> LiveSession:
        avatar = options.pop("avatar", self.avatar)
        animator = options.pop("animator", self.animator)
        start = partial(animator.live, avatar, clock=self.clock, progress=self.step, **options)
        session = self._beside_others(start) if self.sessions else start()
        self.sessions.append(session)
        return self.clock.watch(session)

    def close_one(self, session: LiveSession) -> None:
        """While others go on."""
        self._beside_others(session.close)
        self.sessions.remove(session)
        self.clock.forget(session)

    def _beside_others(self, action: Callable[[], T]) -> T:
        """Do what waits for the device while that works for the other sessions."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(action)
            while wait([done], 0.001).not_done:
                self.clock.let_pass()
            return done.result()

    def close(self) -> None:
        self.clock.end()
        for session in self.sessions:
            session.close()


@contextmanager
def staged(animator: Animator, avatar: Avatar, step_s: float = 0.005) -> Iterator[Stage]:
    stage = Stage(animator, avatar, step_s)
    try:
        yield stage
    finally:
        stage.close()


def run_all(sessions: Sequence[LiveSession], clock: SimulatedClock, seconds: float) -> list[list[LivePair]]:
    """Take the pairs of all of them, each when it is due, in one thread."""
    taken: list[list[LivePair]] = [[] for _ in sessions]
    end = clock.now() + seconds
    while clock.now() < end:
        polled = [session._poll() for session in sessions]
        pairs = [found for found, _ in polled if isinstance(found, LivePair)]
        for index, (found, _) in enumerate(polled):
            if isinstance(found, LivePair):
                taken[index].append(found)
        if not pairs:
            signals = [(session._signal, seen) for session, (_, seen) in zip(sessions, polled, strict=True)]
            clock.wait_for_any(signals, min(found for found, _ in polled if isinstance(found, float)))
    return taken


def take(session: LiveSession, pairs: int) -> list[LivePair]:
    return list(islice(session, pairs))


def until_last(session: LiveSession, utterance: int) -> list[LivePair]:
    """Pairs up to the end of an utterance."""
    taken = list[LivePair]()
    for pair in session:
        taken.append(pair)
        if pair.is_last and pair.utterance == utterance:
            return taken
        assert len(taken) < 5_000, "the utterance does not end"
    raise AssertionError("the session has ended")


def sound(pairs: list[LivePair]) -> Array:
    return np.concatenate([np.zeros(0, np.float32), *(pair.audio for pair in pairs)])


def frames(pairs: list[LivePair]) -> Array:
    return np.stack([pair.frame for pair in pairs])


class Heard(NamedTuple):
    """A pair, when it was given, and how long after its first sample was spoken."""

    at: float
    pair: LivePair
    delay: float


class Talker:
    """Sound that arrives in real time, whatever the session does: an open loop. Each sample says when it was spoken."""

    def __init__(self, session: LiveSession, clock: SimulatedClock, chunk: int = 320) -> None:
        self.session, self._clock, self._chunk = session, clock, chunk
        self._start, self._spoken = clock.now(), 0
        self.refused = 0
        """Samples that the queue had no room for."""

    def push_what_has_come(self) -> None:
        while self._start + (self._spoken + self._chunk) / RATE <= self._clock.now():
            spoken_at = self._start + np.arange(self._spoken, self._spoken + self._chunk) / RATE
            try:
                self.session.push(((spoken_at - 999) / 1000).astype(np.float32))
            except QueueFull:
                self.refused += self._chunk
            self._spoken += self._chunk

    def listen(self, seconds: float) -> list[Heard]:
        """What comes in so much time."""
        end, taken = self._clock.now() + seconds, list[Heard]()
        while self._clock.now() < end:
            self.push_what_has_come()
            pair = next(self.session)
            now = self._clock.now()
            taken.append(Heard(now, pair, now - 999 - 1000 * float(pair.audio[0]) if pair.speaking else np.nan))
        return taken


def delays(taken: list[Heard]) -> Array:
    return np.array([one.delay for one in taken])
