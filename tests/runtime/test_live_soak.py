"""Four live sessions for a long time: neither threads nor files nor memory grow.

`make soak` is half an hour of them; as one of the slow tests it is two minutes. Time is simulated, all else is real.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from emo_rt import Animator, Bundle, LiveSession, QueueFull, Runtime
from tests.live_sessions import FPS, RATE, Stage, noise_picture, run_all, staged, with_short_ladder

logger = logging.getLogger(__name__)

SECONDS = float(os.environ.get("SOAK_S", "120"))
SESSIONS, TURN_S, LIFE_TURNS = 4, 1.0, 20
MOST_BYTES, MOST_OBJECTS = 6_000_000, 2_000
"""What an allocator and caches may add. A picture that is kept of each frame would add 12 MB a minute."""


class Usage(NamedTuple):
    """Of this process."""

    threads: int
    files: int
    resident: int
    """Bytes."""
    objects: int
    """That Python's collector watches."""


def usage() -> Usage:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return Usage(threading.active_count(), files, pages * os.sysconf("SC_PAGESIZE"), len(gc.get_objects()))


@pytest.fixture
def stage(tiny_bundle: Bundle, tmp_path: Path) -> Iterator[Stage]:
    path = with_short_ladder(tiny_bundle.path, tmp_path / "bundle")
    with (
        Runtime("cpu") as runtime,
        Animator.load(path, device="cpu", threads=1, runtime=runtime, verify=False) as animator,
        staged(animator, animator.prepare(noise_picture(), face_box="full"), 0.002) as opened,
    ):
        yield opened


def open_one(stage: Stage, number: int) -> LiveSession:
    """They differ in idling and in rate."""
    idle, rate = ("loop", "model")[number % 8 == 0], (RATE, 22_051)[number % 2]
    return stage.open(preset="last", idle=idle, loop_s=0.32, sample_rate=rate, queue_s=3, when_full="raise")


def talk(session: LiveSession, chance: np.random.Generator) -> None:
    """Now and then it says something, and is interrupted."""
    rate = session.settings.sample_rate
    if chance.random() < 0.4:
        with suppress(QueueFull):
            session.push(0.1 * chance.standard_normal(int(chance.integers(1, 2 * rate)), np.float32))
    if chance.random() < 0.3:
        session.flush()
    if chance.random() < 0.1:
        session.clear()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc, which only Linux has")
def test_nothing_grows(stage: Stage) -> None:
    chance, opened = np.random.default_rng(5), SESSIONS
    sessions = [open_one(stage, number) for number in range(SESSIONS)]
    seen = list[Usage]()
    turns = int(SECONDS / TURN_S)
    for turn in range(turns):
        for session in sessions:
            talk(session, chance)
        pairs = run_all(sessions, stage.clock, TURN_S)
        assert all(abs(len(one) - TURN_S * FPS) <= 1 for one in pairs)
        if turn % LIFE_TURNS == LIFE_TURNS - 1:
            stage.close_one(sessions.pop(0))
            sessions.append(open_one(stage, opened))
            opened += 1
        if turn >= turns // 3 and turn % LIFE_TURNS == LIFE_TURNS // 2:
            seen.append(usage())
    logger.info("%g s of %d sessions, %d opened: first %s, last %s", SECONDS, SESSIONS, opened, seen[0], seen[-1])
    early, late = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert max(one.threads for one in late) <= max(one.threads for one in early)
    assert max(one.files for one in late) <= max(one.files for one in early)
    assert min(one.resident for one in late) - max(one.resident for one in early) < MOST_BYTES
    assert min(one.objects for one in late) - max(one.objects for one in early) < MOST_OBJECTS
    assert sum(session.stats.repeated_frames for session in sessions) == 0
