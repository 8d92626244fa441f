"""How long until a fresh process has its first clip? Import, load, warm-up, portrait, first clip, second clip.

Each repetition is a process of its own. Files may be in the system's cache: this is a restart, not a first boot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from statistics import median
from time import perf_counter

from emo_rt.benchmarks.subject import Setting
from emo_rt.errors import BackendError

CHILD = "import sys; from emo_rt.benchmarks.cold_start import child; child(sys.argv[1], {start})"


@dataclass(frozen=True)
class ColdStart:
    """Medians over processes, in seconds. The first six are phases, one after another."""

    import_s: float
    load_s: float
    warmup_s: float
    prepare_s: float
    first_clip_s: float
    second_clip_s: float
    process_s: float
    """From the start of Python to the end of the process."""
    repetitions: int


PHASES = tuple(field.name for field in fields(ColdStart))[:6]
"""What a child process reports, in order."""


def cold_start(setting: Setting, repetitions: int) -> ColdStart:
    """Start so many processes, one after another. Raises :class:`BackendError`."""
    found = [_fresh_process(setting) for _ in range(repetitions)]
    return ColdStart(**{name: median(times[name] for times in found) for name in found[0]}, repetitions=repetitions)


def _fresh_process(setting: Setting) -> dict[str, float]:
    program = "import time; begin = time.perf_counter(); " + CHILD.format(start="begin")
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asdict(setting))], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BackendError(f"the fresh process of the cold start failed: {done.stderr.strip()[-500:]}")
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**times, "process_s": perf_counter() - start}


def child(setting: str, begin: float) -> None:
    """In the fresh process: do everything once and print the phases as JSON. ``begin``: when Python was up."""
    from emo_rt.benchmarks.subject import Subject

    marks = [begin, perf_counter()]
    with Subject(Setting(**json.loads(setting))) as subject:
        marks.append(perf_counter())
        subject.animator.warmup(subject.setting.options())
        marks.append(perf_counter())
        assert subject.avatar
        marks.append(perf_counter())
        for _ in range(2):
            subject.run()
            marks.append(perf_counter())
    phases = [later - earlier for earlier, later in pairwise(marks)]
    sys.stdout.write(json.dumps(dict(zip(PHASES, phases, strict=True))) + "\n")
