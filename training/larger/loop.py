"""The loop that all networks here are trained by."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.borrowed.clock import Clock, Log, Trainer

PEAK = 1e-3
SAVED_S = 240.0


def train(
    folder: Path,
    name: str,
    network: nn.Module,
    seconds: float,
    step: Callable[[float, np.random.Generator], dict[str, Tensor]],
    look: Callable[[], dict[str, float]],
    now: Callable[[], float] = time.monotonic,
    peak: float = PEAK,
) -> None:
    """Until the budget is used, from the checkpoint where there is one; leaves ``NAME.pt`` and ``NAME.jsonl``."""
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    log, trainer = Log(folder, name), Trainer(folder / f"{name}.pt", parameters, peak)
    clock, saved = Clock(seconds, trainer.used, now), now()
    share = clock.share
    while share < 1:
        share = clock.share  # read once a step: the step that uses the budget up also saves
        trainer.forget()
        torch.manual_seed(trainer.step)
        parts = step(share, np.random.default_rng(trainer.step))
        trainer.update(share)
        if trainer.step % 100 == 0:
            log(step=trainer.step, share=share, **{key: value.detach() for key, value in parts.items()})
        if now() - saved > SAVED_S or share >= 1:
            trainer.save(share * clock.seconds)
            log(step=trainer.step, **trainer.averaged(look))
            saved = now()
