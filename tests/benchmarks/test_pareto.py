"""The table of settings: which there are, and which are worth having."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator, Box
from emo_rt.benchmarks import pareto
from emo_rt.benchmarks.quality_measures import Measures
from emo_rt.evaluate.subject import Speech
from emo_rt.model.presets import Preset


def row(speedup: float, score: float) -> pareto.MeasuredPoint:
    names = {field.name for field in fields(Measures)}
    time = {"speedup": speedup, "seconds_per_video": 10 / speedup, "likeness_db": 0.5}
    return pareto.MeasuredPoint(**dict.fromkeys(names, 0.5), **time, score=score, best=False)  # type: ignore[arg-type]


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
    assert rows[pareto.BASE].score == pytest.approx(1)
    assert rows[pareto.BASE].likeness_db == 100
    assert 0 <= rows["unipc 2"].score < 1
    header, _, *lines = pareto.markdown(rows).splitlines()
    assert header.endswith("| likeness_db | gate |")
    assert len(lines) == 2


@pytest.fixture
def few_steps(bundle_copy: Path) -> Iterator[Animator]:
    """As a distilled student is: three or four steps, and a default preset that is the best."""
    path = bundle_copy / "emo_rt.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest |= {"variants": {"base": {"steps": [3, 4]}}, "default_preset": "turbo"}
    manifest["presets"] = {"turbo": {"solver": "unipc", "steps": 4}}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        yield animator


def test_a_model_of_few_steps_is_held_against_its_own_best(few_steps: Animator) -> None:
    speech = Speech(np.full((96, 96, 3), 128, np.uint8), np.zeros(16_000, np.float32), Box(20, 20, 70, 70))
    chosen = {name: one for name, one in pareto.settings((3, 8), ("ddim",)).items() if "guidance" not in name}
    possible = {name: one for name, one in chosen.items() if pareto.is_possible(few_steps, one)}
    assert list(possible) == ["ddim 3"]
    rows = pareto.gated(few_steps, speech, possible, 1)
    assert list(rows) == ["ddim 3", "unipc 4"]
    assert rows["unipc 4"].score == pytest.approx(1)
    assert rows["unipc 4"].speedup == 1
    assert rows["ddim 3"].likeness_db < 100


def test_settings_are_presets_too() -> None:
    options = AnimateOptions(solver="unipc", steps=8, guidance_interval=(0.2, 0.8), deep_cache=2)
    assert pareto.as_preset(options) == Preset(solver="unipc", steps=8, guidance_interval=(0.2, 0.8), deep_cache=2)


def test_table() -> None:
    rows = pareto.with_best({pareto.BASE: row(1, 1.0), "unipc 4": row(9, 0.7), "unipc 8, cache 2": row(4, 0.6)})
    lines = pareto.markdown(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["**ddim 40**", "unipc 8, cache 2", "**unipc 4**"]
