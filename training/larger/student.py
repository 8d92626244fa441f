"""The student: another ``step`` graph, which gives at once, without guidance, what the guided run gives.

Of the Backbone's weights only those change that make the finest level, and the residual blocks and norms on the way
up: all other graphs, and most of the step's weights, are the teacher's, so that the bundle grows by 2 MB.

``pool`` lets the teacher make rows of clips, each on the motion frames of the one before. The student learns from them
at the first timestep, where the input is pure noise, mostly on the motion frames that it made itself.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emo_rt.export.networks.model import EmoModel
from emo_rt.model.solvers import alphas_cumprod
from training.borrowed.footage import Batch, Footage, Reels, with_motion
from training.borrowed.student import ROW, Pool
from training.borrowed.told import features, predict
from training.corpus import available
from training.diffusion import FLICKER_WEIGHT
from training.larger.base import base
from training.larger.kept import started
from training.larger.loop import train
from training.loop import save_atomically

CORPUS, POOL = "corpus", "pool"
"""Folders of clips at 128×128, and of what the teacher made of them."""
ROWS, STEPS = 8, 6
"""Rows of clips that the teacher makes at once, and its UniPC steps."""
BATCH = 4
PEAK = 3e-4
OWN_MOTION = 0.7
"""Share of clips behind the first that follow on what the student made itself."""
TAUGHT = ("conv_in.", "down_blocks.0.", "up_blocks.2.", "conv_norm_out.", "conv_out.")
"""Parts of the Backbone that change as a whole."""
SHARED = ("attn2.to_k", "attn2.to_v", "attn_audio.to_k", "attn_audio.to_v", "time_emb", "temporal")
"""Never: what other graphs compute, and the temporal modules, of which other graphs compute parts."""


class Student(nn.Module):
    """The parameters of a model that the student does not share with its teacher."""

    def __init__(self, model: EmoModel) -> None:
        super().__init__()
        self.model = [model]  # not a child: its other parameters are not to be kept
        own = {name: parameter for name, parameter in model.backbone.named_parameters() if is_own(name)}
        self.own = nn.ParameterDict({name.replace(".", "/"): parameter for name, parameter in own.items()})


def is_own(name: str) -> bool:
    """Whether a parameter of the Backbone is the student's own."""
    if any(part in name for part in SHARED):
        return False
    return name.startswith((*TAUGHT, "up_blocks.1.resnets.")) or "norm" in name


def make_student(folder: Path) -> Student:
    """The teacher's weights, or what is kept."""
    model = copy.deepcopy(base(folder))
    return started(Student(model), "student")


def fill_pool(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Rows of clips by the teacher until the time is over, one file for each :data:`ROWS` of them."""
    begin, teacher, footage = now(), base(folder), footage_of(folder)
    (folder / POOL).mkdir(exist_ok=True)
    while now() - begin < seconds:
        pool = Pool(footage)
        pool.fill(teacher, ROWS, STEPS, teacher.config.guidance)
        told, noises, results = pool.rows[0]
        named = [{part.name: getattr(one, part.name) for part in fields(one)} for one in told]
        save_atomically(
            {"told": named, "noises": noises, "results": results},
            folder / POOL / f"{len(available_pool(folder)):05d}.pt",
        )


def footage_of(folder: Path) -> Footage:
    """The corpus as the teacher's network sees and hears it."""
    seeds = len(available(folder / CORPUS))
    reels = Reels(folder / CORPUS, "cpu", seeds)
    reels.close()  # once it has all
    return Footage(base(folder), list(reels.clips.values()), disturbed=1)


def available_pool(folder: Path) -> list[Path]:
    """What there is by now, in order."""
    return sorted((folder / POOL).glob("*.pt"))


class Rows:
    """One file of the pool after another, clip by clip."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._index = folder, ROW
        self.made: Tensor | None = None
        """(B, N, C, S, S): the student's own motion frames for the next clip."""

    def next(self, rng: np.random.Generator) -> tuple[Batch, Tensor, Tensor]:
        """What is told, the noise and the teacher's result of :data:`BATCH` clips."""
        self._index += 1
        if self._index >= ROW:
            files = available_pool(self._folder)
            self._row = torch.load(files[rng.integers(len(files))], weights_only=True)
            self._picked = torch.from_numpy(rng.permutation(len(self._row["noises"][0]))[:BATCH])
            self._index, self.made = 0, None
        told, noises, results = (self._row[name] for name in ("told", "noises", "results"))
        given = Batch(**{name: value[self._picked].float() for name, value in told[self._index].items()})
        if self.made is not None:
            given = with_motion(given, self.made, torch.from_numpy(rng.random(BATCH) < OWN_MOTION))
        return given, noises[self._index][self._picked].float(), results[self._index][self._picked].float()


def train_student(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Until the budget is used; leaves ``student.pt`` and ``student.jsonl``."""
    student, rows, held_out = make_student(folder), Rows(folder), Rows(folder)
    model = student.model[0]
    signal = torch.from_numpy(alphas_cumprod(model.config.schedule)).float()

    def made_of(given: Batch, noise: Tensor) -> Tensor:
        """x0 of one step from noise: there is no signal at the last timestep, so x0 is −v."""
        with torch.no_grad():
            told = features(model, given)
        at = torch.full((len(noise),), len(signal) - 1)
        return -predict(model, noise, at, told)

    def step(share: float, rng: np.random.Generator) -> dict[str, Tensor]:
        given, noise, wanted = rows.next(rng)
        x0 = made_of(given, noise)
        error = x0 - wanted
        square = (error.square() * given.weight).mean()
        flicker = (error.diff(dim=1).square() * given.weight[:, 1:]).mean()
        (square + FLICKER_WEIGHT * flicker).backward()
        rows.made = x0[:, -model.config.motion_frames :].detach()
        return {"square": error.square().mean(), "flicker": flicker}

    def look() -> dict[str, float]:
        errors, rng = [], np.random.default_rng(0)
        with torch.no_grad():
            for _ in range(2 * ROW):
                given, noise, wanted = held_out.next(rng)
                x0 = made_of(given, noise)
                held_out.made = x0[:, -model.config.motion_frames :]
                errors.append(float((x0 - wanted).square().mean()))
        return {"error": float(np.mean(errors))}

    train(folder, "student", student, seconds, step, look, now, peak=PEAK)
