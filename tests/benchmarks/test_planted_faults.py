"""Planted faults reach the gate, and what it says is told; with a model of random weights, whose frames alone count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emo_rt import AnimateOptions, Box, Bundle
from emo_rt.benchmarks import planted_faults
from emo_rt.benchmarks.planted_faults import Answer, Planter, late, markdown, noisy_bundle, repeating
from emo_rt.cli.machine import Machine
from emo_rt.evaluate.subject import Speech


def test_late_sound_and_repeated_frames() -> None:
    sound = np.arange(16_000, dtype=np.float32)
    moved = late(sound, 3, 25)
    assert len(moved) == len(sound)
    assert not moved[:1920].any()
    assert np.array_equal(moved[1920:], sound[:-1920])
    frames = np.arange(25, dtype=np.uint8).reshape(25, 1, 1, 1)
    assert np.flatnonzero(repeating(frames).ravel() != frames.ravel()).tolist() == [9, 19]


def test_noise_changes_one_graph_and_the_bundle_still_opens(tiny_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    copy = Bundle.open(noisy_bundle(tiny_bundle, "reference", tmp_path / "noisy"), verify=True)
    assert copy.sha256 != tiny_bundle.sha256
    before = {path.name: path.read_bytes() for path in (tiny_bundle.path / "graphs").iterdir()}
    after = {path.name: path.read_bytes() for path in (copy.path / "graphs").iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["reference.onnx"]


@pytest.mark.slow
def test_every_fault_is_put_to_the_gate(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(planted_faults, "GRAPHS", ("reference", "vae_decoder"))
    portrait = np.full((96, 96, 3), 128, np.uint8)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)  # silence would be as good when late
    speech = Speech(portrait, sound, Box(20, 20, 70, 70))
    machine = Machine(str(tiny_bundle.path), device="cpu", threads=1)
    planter = Planter(machine, speech, AnimateOptions(steps=2))
    answers = list(planter.answers(np.full_like(portrait, 40), Box(20, 20, 70, 70)))
    assert [one.fault.partition(" ")[0] for one in answers] == ["the", "1", "1", "lips", "another", "every"]
    assert answers[0].passed, "no face is needed where frames shall be equal"
    # frames of this model hardly move: one of them twice is as good
    assert [one.fault for one in answers[3:5] if one.passed] == [], "without a face, nothing is as good"


def test_a_wrong_answer_is_marked() -> None:
    answers = [Answer("noise", "equal", False, True, "PASS: …"), Answer("again", "equal", True, True, "PASS: …")]
    first, second = markdown(answers).splitlines()[2:]
    assert "(wrong)" in first
    assert "(wrong)" not in second
    assert json.dumps([vars(one) for one in answers])
