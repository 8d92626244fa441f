"""The loop that all stages share: seeded by step, resumable, with averaged weights and a journal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emo_rt.files import whole_file
from training.journal import Journal

Loss = Callable[[np.random.Generator], Mapping[str, Tensor]]
"""Draws an example and gives its losses by name; ``total`` is what is minimised."""


@dataclass(frozen=True)
class Stage:
    """How one stage trains."""

    name: str
    """Names the checkpoint and the journal."""
    steps: int
    """Optimiser steps in all."""
    learning_rate: float
    """Of AdamW, after the warm-up."""
    batch: int = 1
    """Examples whose gradients are added up for one step."""
    warmup: int = 100
    """Steps over which the learning rate rises."""
    cooldown: float = 0.3
    """Share of the steps, at the end, over which it falls to a twentieth."""
    ema: float = 0.999
    """Decay of the averaged weights; shorter at the start."""
    weight_decay: float = 0.01
    """AdamW."""
    seed: int = 0
    """Every random draw of step i follows from this, the stage's name and i."""

    def rate(self, step: int) -> float:
        """Learning rate at a step: up, level, down."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        falling = max(1.0, self.cooldown * self.steps)
        left = min(1.0, (self.steps - step) / falling)
        return self.learning_rate * rise * (0.05 + 0.95 * left)


class Loop:
    """Trains some parameters of a model. The checkpoint holds everything that is needed to go on."""

    def __init__(self, stage: Stage, folder: Path, model: nn.Module, trainable: Sequence[nn.Parameter]) -> None:
        self.stage, self.model, self.trainable = stage, model, list(trainable)
        self.path = folder / f"{stage.name}.pt"
        model.to(memory_format=torch.channels_last)  # 1.4 times as fast on the CPU
        self.optimizer = torch.optim.AdamW(
            self.trainable, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay, fused=True
        )
        self.average = [parameter.detach().clone() for parameter in self.trainable]
        self.step, self.seconds = 0, 0.0
        self.journal = Journal(folder / f"{stage.name}.jsonl")
        if self.path.exists():
            self._resume()

    def run(self, loss: Loss, budget_s: float = math.inf, save_every_s: float = 120.0) -> bool:
        """Train until the stage or the budget is over; gives back whether the stage is. Saves on the way."""
        started = saved = time.monotonic()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.trainable:
            parameter.requires_grad_(True)
        while self.step < self.stage.steps and time.monotonic() - started < budget_s:
            before = time.monotonic()
            values = self._one_step(loss)
            self.seconds += time.monotonic() - before
            self.journal.add(self.step, self.seconds, values)
            if time.monotonic() - saved > save_every_s:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.step >= self.stage.steps

    def _one_step(self, loss: Loss) -> dict[str, float]:
        stage, sums = self.stage, dict[str, float]()
        name = int.from_bytes(stage.name.encode()[:8], "little")
        rng = np.random.default_rng([stage.seed, name, self.step])
        torch.manual_seed(int(rng.integers(2**31)))
        for _ in range(stage.batch):
            losses = loss(rng)
            (losses["total"] / stage.batch).backward()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach()) / stage.batch
        norm = float(nn.utils.clip_grad_norm_(self.trainable, 1.0))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = stage.rate(self.step)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return {**sums, "gradient": norm}

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.stage.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.trainable], 1 - keep)

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the averaged weights into the model."""
        for parameter, average in zip(self.trainable, self.average, strict=True):
            parameter.copy_(average)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "weights": [parameter.detach() for parameter in self.trainable],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, self.path)
        self.journal.write()

    def stamp(self, name: str, **facts: Any) -> None:
        """Write down what the stage came to, as ``<name>.json``: the model card is made of these."""
        facts = {"steps": self.step, "hours": self.seconds / 3600, **facts}
        self.path.with_name(f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @torch.no_grad()
    def _resume(self) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        for own, kept in ((self.trainable, state["weights"]), (self.average, state["average"])):
            for parameter, value in zip(own, kept, strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.journal.keep_until(self.step)


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` that never leaves half a file under the name."""
    with whole_file(path) as part:
        torch.save(dict(state), part)
