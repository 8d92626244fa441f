"""How much time does the runtime add to its graphs?

One clip from sound to frames, and the same launches on the same buffers, one after another without the runtime, in
alternation. The overhead is what the clip takes longer, as a share of its time: threads, audio windows, noise, copies,
binding, Python. Goal: 3 % or less on a CPU with the demo model.

On a machine that does other work the difference of two long times is noisy. ``outside_graphs`` says how much of a
clip's time passes while no graph runs, from times taken within one run; what graphs lose by running in the runtime
(cold caches, other threads) is in the overhead only.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from emo_rt.benchmarks.harness import interleaved, timed
from emo_rt.benchmarks.recording import RecordingBackend
from emo_rt.benchmarks.subject import Subject
from emo_rt.errors import ConfigError

GOAL = 0.03
"""Largest share of the time of a clip that the runtime may add."""


def runtime_overhead(subject: Subject) -> dict[str, Any]:
    """``overhead``: median over rounds of (end to end − bare) / end to end; 0.02 is 2 %. Below 0: noise.

    Raises :class:`ConfigError` on a GPU: ``emo_rt.benchmarks.bench_gpu`` is for that.
    """
    recorder = subject.recorder
    if recorder is None:
        raise ConfigError("the runtime's overhead is measured on the CPU only; leave out the scenario 'overhead'")
    subject.run()
    with recorder.recording() as recording:
        subject.run()
    recording.replay()
    rounds = interleaved({"end_to_end": subject.run, "bare": recording.replay}, max(subject.setting.rounds, 3))
    shares = [(times["end_to_end"] - times["bare"]) / times["end_to_end"] for times in rounds]
    return {
        "overhead": median(shares),
        "smallest": min(shares),
        "largest": max(shares),
        "end_to_end_s": median(times["end_to_end"] for times in rounds),
        "bare_graphs_s": median(times["bare"] for times in rounds),
        "outside_graphs": median(_outside(subject, recorder) for _ in range(max(subject.setting.rounds, 3))),
        "launches": len(recording.launches),
        "goal": GOAL,
        "slower_in_the_runtime": _slower(recording.by_graph(), recording.by_graph(recording.replay_timed())),
    }


def _outside(subject: Subject, recorder: RecordingBackend) -> float:
    """Share of one clip's time in which no graph runs, from inside that run: hardly touched by other load."""
    with recorder.recording(replayable=False) as recording:
        seconds = timed(subject.run)
    return 1 - sum(recording.seconds) / seconds


def _slower(inside: dict[str, Any], bare: dict[str, Any]) -> dict[str, float]:
    """Per graph: seconds per clip that its launches take longer inside the runtime than outside."""
    return {name: inside[name]["total_s"] - bare[name]["total_s"] for name in inside}
