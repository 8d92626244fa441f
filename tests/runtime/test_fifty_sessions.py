"""Fifty sessions are open on the packaged model, and three of them talk; slow.

``-s`` shows what an open session costs in memory, and what each speaker got of the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import thread_time
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, Avatar, Progress, Runtime, Session
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.memory import resident_memory
from emo_rt.model.contract import Array
from emo_rt.runtime import clip_maker

pytestmark = pytest.mark.slow

RATE, OPEN, CLIPS, STEPS = 16_000, 50, 10, 2
SHARE = 0.1
"""How far a speaker's share may be from a third of what was done, in units of it."""
PATIENCE_S = 120.0

Turn = tuple[str, int, int]
"""Who, clip, step."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Animator]:
    with Runtime("cpu") as own, Animator.load("demo", device="cpu", threads=1, runtime=own) as animator:
        yield animator


@pytest.fixture(scope="module")
def avatars(demo: Animator) -> list[Avatar]:
    """Of two people."""
    other = np.random.default_rng(9).integers(0, 255, (200, 200, 3), np.uint8)
    return [demo.prepare(picture, face_box="full") for picture in (DEMO_PORTRAIT, other)]


class Stage:
    """Fifty open sessions, of which some are given names."""

    def __init__(self, demo: Animator, avatars: list[Avatar]) -> None:
        self.demo, self.avatars = demo, avatars
        self.turns: list[Turn] = []
        """Solver steps of all, in the order in which they were done."""
        self.work: dict[str, float] = {}
        """Seconds of the device's thread."""
        self.named: dict[str, Session] = {}
        self.sounds: dict[str, Array] = {}
        self._exits, self._last, self._idle = ExitStack(), 0.0, list[Session]()

    def name(self, name: str, seed: int, clips: int = CLIPS, **settings: Any) -> None:
        """A session that will talk. Its voice, its noise and its face go by ``seed``."""
        sound = 0.1 * np.random.default_rng(seed).standard_normal(clips * self._clip, np.float32)
        settings = {"progress": self._note(name), "steps": STEPS, "seed": seed, **settings}
        session = self.demo.open_session(self._face(seed), **settings)
        self.named[name], self.sounds[name] = self._exits.enter_context(session), sound

    def fill(self) -> None:
        """Open the others, who stay silent."""
        while len(self.named) + len(self._idle) < OPEN:
            self._idle.append(self._exits.enter_context(self.demo.open_session(self._face(len(self._idle)))))

    def say(self, name: str) -> None:
        """Give a session its whole sound."""
        self.named[name].push(self.sounds[name])
        self.named[name].end()

    def together(self, *names: str) -> None:
        """Let them begin at the same time: the device is held until all have their sound."""
        reached, release = threading.Event(), threading.Event()

        def hold(_: Progress) -> None:
            reached.set()
            assert release.wait(PATIENCE_S)
            self._last = thread_time()

        with self.demo.open_session(self.avatars[0], priority=1000, steps=STEPS, progress=hold) as gate:
            gate.push(np.zeros(self._clip, np.float32))
            gate.end()
            assert reached.wait(PATIENCE_S)
            for name in names:
                self.say(name)
            release.set()
            list(gate)

    def frames(self, name: str) -> Array:
        """All that a session makes."""
        return np.concatenate([chunk.frames for chunk in self.named[name]])

    def alone(self, name: str, seed: int) -> Array:
        """What it would have made with nobody beside it."""
        sound = self.sounds[name]
        return self.demo.animate(self._face(seed), sound, sample_rate=RATE, steps=STEPS, seed=seed).numpy()

    @property
    def idle_nbytes(self) -> int:
        """State of those who are silent."""
        return sum(session.nbytes for session in self._idle)

    @property
    def _clip(self) -> int:
        return self.demo.config.frames * RATE // self.demo.config.fps

    def _face(self, seed: int) -> Avatar:
        return self.avatars[seed % 2]

    def _note(self, name: str) -> Callable[[Progress], None]:
        def note(at: Progress) -> None:
            now = thread_time()  # all steps are done in the device's one thread
            self.work[name] = self.work.get(name, 0.0) + now - self._last
            self._last = now
            self.turns.append((name, at.clip, at.step))

        return note

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()


@pytest.fixture
def stage(demo: Animator, avatars: list[Avatar], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(clip_maker, "CLIPS_UNDER_WAY", 1000)  # whose turn it is must not depend on who takes frames
    with Stage(demo, avatars) as made:
        yield made


SPEAKERS = {"anna": 1, "ben": 2, "cleo": 3}
"""Who talks, and the seed."""


def test_frames_as_alone_and_fair_shares(stage: Stage) -> None:
    for name, seed in SPEAKERS.items():
        stage.name(name, seed)
    before = resident_memory() or 0
    stage.fill()
    after = resident_memory() or 0
    stage.together(*SPEAKERS)
    found = {name: stage.frames(name) for name in SPEAKERS}
    for name, seed in SPEAKERS.items():
        np.testing.assert_array_equal(found[name], stage.alone(name, seed))
    steps = [name for name, _, _ in stage.turns]
    assert len(steps) == len(SPEAKERS) * CLIPS * STEPS
    for end in range(len(steps) // 2, len(steps) + 1):
        counts = [steps[:end].count(name) for name in SPEAKERS]
        assert max(counts) - min(counts) <= STEPS, "nobody is more than a clip ahead"
    shares = {name: steps[: len(steps) // 2].count(name) / (len(steps) // 2) for name in SPEAKERS}
    assert all(abs(3 * share - 1) <= SHARE for share in shares.values()), shares
    assert stage.idle_nbytes == 0
    assert after - before < OPEN * 1e6, "a megabyte each"
    each_kb, whole = (after - before) / (OPEN - len(SPEAKERS)) / 1e3, sum(stage.work.values())
    print(f"\nan open session: {each_kb:.0f} kB; shares of the steps' processor time:")  # noqa: T201
    print({name: f"{100 * spent / whole:.1f} %" for name, spent in stage.work.items()})  # noqa: T201


def test_a_higher_priority_goes_first(stage: Stage) -> None:
    """One of the silent ones speaks up in the middle: all of its clips come before the rest of the others'."""
    for name, seed in SPEAKERS.items():
        stage.name(name, seed, clips=4)
    stage.name("urgent", 8, clips=3, priority=1)
    stage.fill()
    told = stage._note("ben")

    def speak_up(at: Progress) -> None:
        told(at)
        if (at.clip, at.step) == (1, 1):
            stage.say("urgent")

    stage.named["ben"].close()
    stage.name("ben", SPEAKERS["ben"], clips=4, progress=speak_up)
    stage.together(*SPEAKERS)
    for name, seed in {**SPEAKERS, "urgent": 8}.items():
        np.testing.assert_array_equal(stage.frames(name), stage.alone(name, seed))
    begun = stage.turns.index(("ben", 1, 1))
    urgent = [("urgent", clip, step) for clip in range(3) for step in range(1, STEPS + 1)]
    assert stage.turns[begun + 1 : begun + 1 + len(urgent)] == urgent, "between two steps of a clip"


def test_one_that_fails_disturbs_no_other(stage: Stage) -> None:
    def noise(clip: int) -> Array:
        if clip == 2:
            raise ZeroDivisionError("mine")
        config = stage.demo.config
        return np.zeros((config.frames, config.vae.latent_channels, *[config.latent_size] * 2), np.float32)

    for name, seed in SPEAKERS.items():
        stage.name(name, seed, clips=4)
    stage.name("broken", 5, clips=4, noise=noise)
    stage.fill()
    stage.together("anna", "broken", "ben", "cleo")
    made = [next(stage.named["broken"]) for _ in range(2)]
    assert [chunk.index for chunk in made] == [0, 1]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="mine"):
            next(stage.named["broken"])
    for name, seed in SPEAKERS.items():
        np.testing.assert_array_equal(stage.frames(name), stage.alone(name, seed))
