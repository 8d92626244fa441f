"""How long after it was spoken is a sound seen, and how many live sessions does this machine hold?

Question
    With sound that arrives by the clock, how much later does its frame come (p50, p90, p99), of it how much is waiting
    for sound, and how many frames are late, on each preset of the ladder? How many sessions keep up?

Method
    Open loop: a thread pushes 20 ms of sound whenever they have been spoken, whatever the session does, so that a
    delay of the session delays nothing of the load (no coordinated omission); how late that thread itself was is in the
    result. The latency of a frame runs from the push of the last of its samples to the moment in which its pair was
    given; of each clip the worst frame counts. Pairs are taken in a thread of their own. The session steps down its
    ladder where it must; the preset at the end is in the result. At least 1,000 frames unless ``--frames`` asks for
    fewer; with few, p99 says little. More sessions than the device can hold are refused; the line says so.

Expected output
    One line per preset and number of sessions, then one line of JSON.

Command
    python -m emo_rt.benchmarks.live [--bundle FOLDER] [--presets realtime,fast] [--sessions 1,2] [--frames 1000]
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt import Animator, Avatar, ClosedError, LiveSession, LiveStats, OverloadedError, QueueFull
from emo_rt.benchmarks.harness import as_json, environment
from emo_rt.cli import terminal
from emo_rt.cli.demo import DEMO_FACE, DEMO_PORTRAIT, DEMO_VOICE
from emo_rt.cli.machine import LongRunning
from emo_rt.cli.options import add_options, read_options
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio
from emo_rt.runtime.live.stats import Percentiles

CHUNK = AUDIO_SAMPLE_RATE // 50
"""20 ms, as real-time audio arrives."""
ADMITTED = 0.9
"""Share of a device that admission gives to live sessions."""


class Listener:
    """One session: sound that is pushed by the clock, pairs that are taken as they come."""

    def __init__(self, session: LiveSession, voice: NDArray[np.float32], frames: int) -> None:
        self._session, self._voice, self._frames = session, voice, frames
        self._start = 0.0
        self.spoken = 0
        """Pairs with speech that came."""
        self.pusher_late_s = 0.0
        """How late sound was pushed, at most."""
        self.stats: LiveStats | None = None
        """What the session said of itself at the end."""
        self.error: BaseException | None = None
        self._threads = [threading.Thread(target=self._talk), threading.Thread(target=self._listen)]

    def start(self) -> None:
        """Begin now."""
        self._start = time.monotonic()
        for thread in reversed(self._threads):  # the talker stops once nobody listens
            thread.start()

    def join(self) -> None:
        """Wait for the end. Raises what went wrong."""
        for thread in self._threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def _talk(self) -> None:
        sent = 0
        try:
            while self._threads[1].is_alive():
                due = self._start + (sent + CHUNK) / AUDIO_SAMPLE_RATE
                time.sleep(max(due - time.monotonic(), 0))
                self.pusher_late_s = max(self.pusher_late_s, time.monotonic() - due)
                first = sent % (len(self._voice) - CHUNK)
                with suppress(QueueFull):
                    self._session.push(self._voice[first : first + CHUNK])
                sent += CHUNK
        except ClosedError:
            return

    def _listen(self) -> None:
        try:
            for pair in self._session:
                self.spoken += pair.speaking
                if self.spoken >= self._frames:
                    self.stats = self._session.stats
                    self._session.close()
        except BaseException as exc:  # noqa: BLE001 - raised by join
            self.error = exc


@dataclass(frozen=True)
class Measured:
    """So many sessions at once."""

    preset: str
    sessions: int
    frames: int
    """Of speech, of all together."""
    opening_s: float
    """Seconds until all were open."""
    pusher_late_s: float
    """How late sound was pushed, at most."""
    latency_s: list[dict[str, Percentiles]]
    """Of each session, by part."""
    late_frames: int
    repeated_frames: int
    dropped_s: float
    rungs_at_the_end: list[str]
    """Of each session."""
    slowdown: float
    """The largest."""
    seconds_per_clip: dict[str, float]
    """By rung."""
    held: dict[str, int]
    """How many sessions the device would hold, by rung."""


@dataclass(frozen=True)
class Refused:
    """So many were not admitted: an answer to how many, too."""

    preset: str
    sessions: int
    refused: str
    """Why."""


def measure(animator: Animator, avatar: Avatar, preset: str, sessions: int, frames: int) -> Measured:
    """So many sessions at once, each until it has shown ``frames`` frames of speech."""
    voice = np.concatenate(list(mono_16k(open_audio(DEMO_VOICE))))
    begun = time.monotonic()
    with ExitStack() as opened:
        listeners = list[Listener]()
        for _ in range(sessions):
            session = animator.live(avatar, preset=preset, paste_back=False, lag="drop", when_full="raise")
            listeners.append(Listener(opened.enter_context(session), voice, frames))
        opening_s = time.monotonic() - begun
        for listener in listeners:
            listener.start()
        for listener in listeners:
            listener.join()
    stats = [listener.stats for listener in listeners if listener.stats is not None]
    clip_s = animator.config.frames / animator.config.fps
    cost = stats[0].seconds_per_clip
    return Measured(
        preset=preset,
        sessions=sessions,
        frames=sum(listener.spoken for listener in listeners),
        opening_s=opening_s,
        pusher_late_s=max(listener.pusher_late_s for listener in listeners),
        latency_s=[dict(one.latency) for one in stats],
        late_frames=sum(one.late_frames for one in stats),
        repeated_frames=sum(one.repeated_frames for one in stats),
        dropped_s=sum(one.dropped_s for one in stats),
        rungs_at_the_end=[one.rung for one in stats],
        slowdown=max(one.slowdown for one in stats),
        seconds_per_clip=dict(cost),
        held={name: int(ADMITTED * clip_s / seconds) for name, seconds in cost.items() if seconds},
    )


def as_line(row: Measured | Refused) -> str:
    """One measurement for people."""
    if isinstance(row, Refused):
        return f"{row.preset} × {row.sessions}: refused ({row.refused})"
    worst = max(row.latency_s, key=lambda one: one["total"].p99)
    latency = "/".join(f"{seconds:.2f}" for seconds in (worst["total"].p50, worst["total"].p90, worst["total"].p99))
    parts = ", ".join(f"{part} {values.p50:.2f}" for part, values in worst.items() if part != "total")
    held = ", ".join(f"{name} {count}" for name, count in row.held.items())
    return (
        f"{row.preset} × {row.sessions}: {latency} s (p50/p90/p99, {row.frames} frames; p50 of {parts}), "
        f"late {row.late_frames}, repeated {row.repeated_frames}, left out {row.dropped_s:.1f} s, "
        f"at the end {', '.join(row.rungs_at_the_end)}; held: {held}"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m emo_rt.benchmarks.live", description=(__doc__ or "").split("\n")[0]
    )
    add_options(parser, LongRunning)
    parser.add_argument("--presets", default="realtime")
    parser.add_argument("--sessions", default="1")
    parser.add_argument("--frames", type=int, default=1000)
    given = parser.parse_args(arguments)
    rows: list[Measured | Refused] = []
    machine = read_options(given, LongRunning)
    with machine.load() as animator:
        avatar = animator.prepare(DEMO_PORTRAIT, face_box=DEMO_FACE)
        for preset in given.presets.split(","):
            for sessions in map(int, given.sessions.split(",")):
                try:
                    rows.append(measure(animator, avatar, preset, sessions, given.frames))
                except OverloadedError as exc:
                    rows.append(Refused(preset, sessions, str(exc)))
                terminal.say(as_line(rows[-1]))
    terminal.say(as_json({"benchmark": "live", "environment": environment(machine.threads), "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
