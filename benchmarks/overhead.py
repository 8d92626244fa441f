"""How much time does the runtime add to its graphs?

One clip from sound to frames, and the same launches on the same buffers, one after another without the runtime, in
alternation. The overhead is what the clip takes longer, as a share of its time: threads, audio windows, noise, copies,
binding, Python. Goal: 3 % or less on a CPU with the demo model.

Other work on the machine only ever adds to a time, by much more than what is looked for; so the least of several rounds
stands for each of the two. ``outside_graphs`` says how much of a clip's time passes while no graph runs, from times
taken within one run; what graphs lose by running in the runtime (cold caches, other threads) is in the overhead only.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from emo_rt.benchmarks.harness import interleaved, timed
from emo_rt.benchmarks.recording import RecordingBackend
from emo_rt.benchmarks.subject import Subject
from emo_rt.errors import ConfigError

GOAL = 0.03
"""Largest share of the time of a clip that the runtime may add."""


@dataclass(frozen=True)
class Overhead:
    """What the runtime adds to a clip."""

    overhead: float
    """(end to end − bare) / end to end, of the least times of all rounds; 0.02 is 2 %. Below 0: noise."""
    smallest: float
    """Of a single round; so is ``largest``."""
    largest: float
    end_to_end_s: float
    bare_graphs_s: float
    outside_graphs: float
    """Share of a clip's time in which no graph runs."""
    launches: int
    """Runs of graphs per clip."""
    goal: float
    slower_in_the_runtime: dict[str, float]
    """By graph: seconds per clip that it takes longer inside the runtime."""


def runtime_overhead(subject: Subject) -> Overhead:
    """Run the clip and its bare launches in alternation.

    Raises :class:`ConfigError` on a GPU: ``emo_rt.benchmarks.bench_gpu`` is for that.
    """
    recorder = subject.recorder
    if recorder is None:
        raise ConfigError("the runtime's overhead is measured on the CPU only; leave out the scenario 'overhead'")
    subject.run()
    with recorder.recording() as recording:
        subject.run()
    recording.replay()
    rounds = interleaved({"end_to_end": subject.run, "bare": recording.replay}, max(2 * subject.setting.rounds, 3))
    shares = [(times["end_to_end"] - times["bare"]) / times["end_to_end"] for times in rounds]
    end_to_end, bare = (min(times[name] for times in rounds) for name in ("end_to_end", "bare"))
    return Overhead(
        overhead=(end_to_end - bare) / end_to_end,
        smallest=min(shares),
        largest=max(shares),
        end_to_end_s=end_to_end,
        bare_graphs_s=bare,
        outside_graphs=median(_outside(subject, recorder) for _ in range(max(subject.setting.rounds, 3))),
        launches=len(recording.launches),
        goal=GOAL,
        slower_in_the_runtime=_slower(recording.by_graph(), recording.by_graph(recording.replay_timed())),
    )


def _outside(subject: Subject, recorder: RecordingBackend) -> float:
    """Share of one clip's time in which no graph runs, from inside that run: hardly touched by other load."""
    with recorder.recording(replayable=False) as recording:
        seconds = timed(subject.run)
    return 1 - sum(recording.seconds) / seconds


def _slower(inside: dict[str, Any], bare: dict[str, Any]) -> dict[str, float]:
    """Per graph: seconds per clip that its launches take longer inside the runtime than outside."""
    return {name: inside[name]["total_s"] - bare[name]["total_s"] for name in inside}
