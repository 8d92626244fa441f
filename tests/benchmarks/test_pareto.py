"""The table of settings: which there are, and which are worth having."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator, Box
from emo_rt.benchmarks import pareto
from emo_rt.evaluate.subject import Speech
from emo_rt.model.presets import Preset


def row(speedup: float, score: float) -> dict[str, Any]:
    return dict.fromkeys(pareto.COLUMNS, 0.5) | {"speedup": speedup, "score": score, "seconds_per_video": 10 / speedup}


def test_settings_have_a_name_each_and_the_base_first() -> None:
    chosen = pareto.settings((4, 8), ("ddim", "unipc"))
    assert next(iter(chosen)) == pareto.BASE
    assert chosen[pareto.BASE] == AnimateOptions(solver="ddim", steps=40)
    assert chosen["unipc 8, guidance 0.2-0.8"].guidance_interval == (0.2, 0.8)
    assert chosen["unipc 8, cache 3"].deep_cache == 3
    assert "unipc 4, cache 2" not in chosen
    assert len(set(map(repr, chosen.values()))) == len(chosen)


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [((2, 0.9), (1, 0.8), True), ((2, 0.8), (1, 0.8), True), ((2, 0.7), (1, 0.8), False), ((1, 0.8), (1, 0.8), False)],
)
def test_better_is_faster_or_nearer_and_neither_less(one: Any, other: Any, better: bool) -> None:
    assert pareto.is_better(row(*one), row(*other)) is better


def test_any_bundle_goes_through_the_gate(tiny_animator: Animator) -> None:
    """A model of random weights, in which no face is found: its frames alone are compared."""
    speech = Speech(np.full((96, 96, 3), 128, np.uint8), np.zeros(16_000, np.float32), Box(20, 20, 70, 70))
    chosen = {pareto.BASE: AnimateOptions(solver="ddim", steps=6), "unipc 2": AnimateOptions(solver="unipc", steps=2)}
    rows = pareto.gated(tiny_animator, speech, chosen, 1)
    assert rows[pareto.BASE]["score"] == pytest.approx(1)
    assert rows[pareto.BASE]["likeness_db"] == 100
    assert 0 <= rows["unipc 2"]["score"] < 1
    header, _, *lines = pareto.markdown(rows).splitlines()
    assert header.endswith("| likeness_db | gate |")
    assert len(lines) == 2


def test_settings_are_presets_too() -> None:
    options = AnimateOptions(solver="unipc", steps=8, guidance_interval=(0.2, 0.8), deep_cache=2)
    assert pareto.as_preset(options) == Preset(solver="unipc", steps=8, guidance_interval=(0.2, 0.8), deep_cache=2)


def test_table() -> None:
    rows = {pareto.BASE: row(1, 1.0) | {"best": True}, "unipc 4": row(9, 0.7) | {"best": True},
            "unipc 8, cache 2": row(4, 0.6) | {"best": False}}  # fmt: skip
    lines = pareto.markdown(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["**ddim 40**", "unipc 8, cache 2", "**unipc 4**"]
