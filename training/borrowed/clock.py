"""What the stages share: a clock that the learning rate follows, averaged weights, a log, checkpoints."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.loop import save_atomically

Now = Callable[[], float]
"""Seconds since some moment. Tests count looks instead: a budget is then a number of steps."""


class Log:
    """One JSON line per entry, in ``<name>.jsonl`` and on stderr."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._name, self._start = folder / f"{name}.jsonl", name, time.monotonic()

    def __call__(self, **values: Any) -> None:
        """Tensors become numbers: call it seldom."""
        row = {"s": round(time.monotonic() - self._start, 1)}
        row |= {key: round(float(v), 5) if isinstance(v, Tensor | float) else v for key, v in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stderr.write(f"[{self._name}] " + " ".join(f"{key}={value}" for key, value in row.items()) + "\n")
        sys.stderr.flush()


class Clock:
    """A stage's budget. The checkpoint keeps how much of it is used."""

    def __init__(self, seconds: float, used: float = 0.0, now: Now = time.monotonic) -> None:
        self.seconds, self._now = max(seconds, 1e-3), now
        self._begin = now() - used

    @property
    def used(self) -> float:
        """Seconds."""
        return self._now() - self._begin

    @property
    def share(self) -> float:
        """0 at the start, 1 when the budget is used up."""
        return min(1.0, self.used / self.seconds)


def rate(peak: float, share: float, step: int, warmup: int = 150) -> float:
    """Learning rate: up over some steps, then half a cosine down to a fiftieth."""
    falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
    return peak * min(1.0, (step + 1) / warmup) * falling


class Trainer:
    """AdamW with averaged weights over some parameters, resumable.

    All parameters become views of one flat tensor, and so do their gradients, which add up until :meth:`forget`: one
    kernel updates them all, and a recorded graph always finds them in the same place.
    """

    def __init__(self, path: Path, parameters: Sequence[nn.Parameter], peak: float, keep: float = 0.999) -> None:
        self.path, self.peak, self._keep = path, peak, keep
        flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.flat, self.gradient = nn.Parameter(flat), torch.zeros_like(flat)
        first = 0
        for parameter in parameters:
            place = slice(first, first + parameter.numel())
            parameter.data = flat[place].view(parameter.shape)
            parameter.requires_grad_(True)
            parameter.grad = self.gradient[place].view(parameter.shape)
            first = place.stop
        self.flat.grad = self.gradient
        self.optimizer = torch.optim.AdamW([self.flat], lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
        self.average = flat.clone()
        self.step, self.used = 0, 0.0
        if path.exists():
            self._load(path)

    def forget(self) -> None:
        """All gradients become zero."""
        self.gradient.zero_()

    @torch.no_grad()
    def update(self, share: float) -> Tensor:
        """One step with the gradients that are there; gives back their norm."""
        norm = self.gradient.norm()
        self.gradient.mul_((1.0 / (norm + 1e-6)).clamp_max(1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.peak, share, self.step)
        self.optimizer.step()
        self.step += 1
        self.average.lerp_(self.flat, 1 - min(self._keep, (1 + self.step) / (10 + self.step)))
        return norm

    def save(self, used: float) -> None:
        """Write the checkpoint, unless something in it is not a number: then go back to the last one."""
        if not bool(torch.isfinite(self.average).all()):
            sys.stderr.write(f"{self.path.name}: not a number at step {self.step}; back to the last checkpoint\n")
            if self.path.exists():
                self._load(self.path)
                self.peak /= 2
            return
        state = {
            "step": self.step,
            "used": used,
            "weights": self.flat.detach(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, self.path)

    @torch.no_grad()
    def use_average(self) -> None:
        """The averaged weights become the model's."""
        self.flat.copy_(self.average)

    @torch.no_grad()
    def averaged(self, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What ``work`` gives with the averaged weights; afterwards all is as before."""
        own = self.flat.detach().clone()
        self.use_average()
        try:
            return work()
        finally:
            self.flat.copy_(own)

    @torch.no_grad()
    def _load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.flat.device, weights_only=True)
        self.step, self.used = state["step"], state["used"]
        self.flat.copy_(state["weights"])
        self.average.copy_(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 900.0) -> None:
    """Block until something that another process makes is there. Raises :class:`TimeoutError`."""
    begin = time.monotonic()
    while not ready():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)
