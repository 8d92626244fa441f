"""Makes every rung of a ladder ready before the first pair, and measures what a clip costs on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emo_rt.runtime.live.clock import Clock
from emo_rt.runtime.live.costs import Costs, Rung
from emo_rt.runtime.live.maker import LiveClip, LiveMaker
from emo_rt.runtime.live.pair import SoundFrame

HOPELESS = 2.0
"""A rung that would take so many times a clip's length is not run: its graphs are opened and its steps tabulated."""


def warm(maker: LiveMaker, costs: Costs, silence: SoundFrame, clock: Clock, clip_s: float) -> None:
    """Run a silent clip on each rung of which the cost is not known, the cheapest first.

    ``silence``: what makes a first clip certain. The costs of a model are kept as long as it is loaded: a
    second session makes no clip here.
    """
    is_first = not any(rung in costs for rung in maker.rungs)
    for rung in reversed(maker.rungs):
        if rung in costs or costs.of(rung) > HOPELESS * clip_s:
            continue
        if is_first:
            _silent_clip(maker, rung, silence, clock)  # pays for whatever is done once
            is_first = False
        clip = _silent_clip(maker, rung, silence, clock)
        costs.note(rung, clip.seconds)
        costs.behind_s = clip.seconds - clip.head_s
    with maker.signal.changed:
        maker.reset()


def wait_until(condition: Callable[[], bool], maker: LiveMaker, clock: Clock) -> None:
    """Until the maker has done something. Raises what has ended it."""
    while True:
        with maker.signal.changed:
            maker.raise_error()
            if condition():
                return
            seen = maker.signal.version
        clock.wait(maker.signal, seen, None)


def _silent_clip(maker: LiveMaker, rung: Rung, silence: SoundFrame, clock: Clock) -> LiveClip:
    done = list[LiveClip]()

    def made(clip: LiveClip, _: NDArray[np.uint8]) -> None:
        if clip.is_made:
            done.append(clip)

    with maker.signal.changed:
        maker.reset()
        maker.made = made
        now = clock.now()
        maker.begin([silence], rung, now, now)
    maker.wake()
    wait_until(lambda: bool(done), maker, clock)
    return done[0]
