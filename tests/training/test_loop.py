"""The training loop: the same steps whether it was stopped on the way or not, averaged weights, a journal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from training.journal import Journal, plot  # noqa: E402
from training.loop import Loop, Stage  # noqa: E402

STAGE = Stage("line", steps=60, learning_rate=0.05, warmup=5, batch=2, ema=0.9, weight_decay=0.0)


def make(folder: Path, stage: Stage = STAGE) -> tuple[Loop, nn.Linear]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return Loop(stage, folder, model, list(model.parameters())), model


def line_loss(model):
    def loss(rng: np.random.Generator):
        x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32)) + 0.01 * torch.randn(8, 3)
        error = ((model(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()
        return {"total": error, "error": error}

    return loss


def test_learns_and_finishes(tmp_path: Path) -> None:
    loop, model = make(tmp_path)
    assert loop.run(line_loss(model))
    loop.use_average()
    assert torch.allclose(model.weight, torch.ones(1, 3), atol=0.1)


def test_resumed_is_the_same(tmp_path: Path) -> None:
    """Stopped after each step and started from the file: bit for bit what one run gives."""
    whole, expected = make(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    whole.run(line_loss(expected))
    (tmp_path / "parts").mkdir()
    finished = False
    while not finished:
        loop, model = make(tmp_path / "parts")
        finished = loop.run(line_loss(model), budget_s=0.004)
        if not finished and loop.step == 0:
            pytest.fail("a budget that is over at once must still allow a step sooner or later")
    assert loop.step == STAGE.steps
    assert torch.equal(model.weight, expected.weight)
    assert torch.equal(loop.average[0], whole.average[0])


def test_rate_rises_and_falls() -> None:
    rates = [STAGE.rate(step) for step in range(STAGE.steps)]
    assert rates[0] == pytest.approx(STAGE.learning_rate / 5)
    assert max(rates) == pytest.approx(STAGE.learning_rate)
    assert rates[-1] < 0.12 * STAGE.learning_rate


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    loop, model = make(tmp_path)
    before = model.weight.detach().clone()
    loop._one_step(lambda rng: {"total": model.weight.sum() * float("inf")})
    assert torch.equal(model.weight, before)


def test_only_chosen_parameters_change(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    frozen = model[0].weight.detach().clone()
    loop = Loop(STAGE, tmp_path, model, list(model[1].parameters()))
    loop.run(line_loss(model))
    assert torch.equal(model[0].weight, frozen)
    assert model[0].weight.grad is None


def test_journal_and_picture(tmp_path: Path) -> None:
    loop, model = make(tmp_path)
    loop.run(line_loss(model))
    rows = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert rows[-1]["error"] < rows[0]["error"]
    assert (tmp_path / "line.png").exists()
    assert plot(rows).size == (900, 480)


def test_journal_forgets_what_a_checkpoint_does_not_know(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    for step in range(1, 101):
        journal.add(step, float(step), {"total": 1.0})
    journal.write()
    again = Journal(tmp_path / "a.jsonl")
    again.keep_until(45)
    assert [row["step"] for row in again.rows] == [20, 40]
