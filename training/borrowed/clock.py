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

    def __init__(self, seconds: float, used: float = 0.0) -> None:
        self._seconds, self._begin = max(seconds, 1e-3), time.monotonic() - used

    @property
    def used(self) -> float:
        """Seconds."""
        return time.monotonic() - self._begin

    @property
    def share(self) -> float:
        """0 at the start, 1 when the budget is used up."""
        return min(1.0, self.used / self._seconds)


def rate(peak: float, share: float, step: int, warmup: int = 150) -> float:
    """Learning rate: up over some steps, then half a cosine down to a fiftieth."""
    falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
    return peak * min(1.0, (step + 1) / warmup) * falling


class Trainer:
    """AdamW with averaged weights over some parameters, resumable."""

    def __init__(self, path: Path, parameters: Sequence[nn.Parameter], peak: float, keep: float = 0.999) -> None:
        self.path, self.parameters, self.peak, self._keep = path, list(parameters), peak, keep
        fused = self.parameters[0].is_cuda
        self.optimizer = torch.optim.AdamW(self.parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.01, fused=fused)
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step, self.used = 0, 0.0
        if path.exists():
            self._load(path)

    def update(self, share: float) -> Tensor:
        """One step with the gradients that are there; gives back their norm."""
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.peak, share, self.step)
        self.optimizer.step()
        self.step += 1
        keep = min(self._keep, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - keep)
        return norm

    def save(self, used: float) -> None:
        """Write the checkpoint, unless something in it is not a number: then go back to the last one."""
        if not all(bool(torch.isfinite(value).all()) for value in self.average):
            sys.stderr.write(f"{self.path.name}: not a number at step {self.step}; back to the last checkpoint\n")
            if self.path.exists():
                self._load(self.path)
                self.peak /= 2
            return
        state = {
            "step": self.step,
            "used": used,
            "weights": [parameter.detach() for parameter in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, self.path)

    @torch.no_grad()
    def use_average(self) -> None:
        """The averaged weights become the model's."""
        for parameter, value in zip(self.parameters, self.average, strict=True):
            parameter.copy_(value)

    def averaged(self, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What ``work`` gives with the averaged weights; afterwards all is as before."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self.use_average()
        try:
            return work()
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, own, strict=True):
                    parameter.copy_(value)

    @torch.no_grad()
    def _load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.parameters[0].device, weights_only=True)
        self.step, self.used = state["step"], state["used"]
        for own, kept in ((self.parameters, state["weights"]), (self.average, state["average"])):
            for parameter, value in zip(own, kept, strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 900.0) -> None:
    """Block until something that another process makes is there. Raises :class:`TimeoutError`."""
    begin = time.monotonic()
    while not ready():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)
