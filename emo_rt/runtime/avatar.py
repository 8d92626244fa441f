"""An avatar: a portrait with everything that the networks compute from it once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emo_rt.checks import check, within
from emo_rt.device.buffers import Buffers
from emo_rt.media.face import Box
from emo_rt.media.portrait import Paster, Portrait, box_mask
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.runtime.avatar_file import read_avatar, save_avatar
from emo_rt.runtime.loaded_model import LoadedModel, to_unit
from emo_rt.runtime.scheduler import drive, whole


@dataclass(frozen=True, eq=False)
class Avatar:
    """Made by :meth:`emo_rt.Animator.prepare`; use it for as many animations as you like, until the animator closes.

    A context manager: closing it, or dropping it, gives the memory of its features back.
    """

    portrait: Portrait
    """The picture, where its face is, and the square that is animated."""
    features: Buffers
    """Portrait latent, reference K/V, face feature: on the device, by tensor name."""
    model: LoadedModel
    """The opened model that made them."""

    @property
    def nbytes(self) -> int:
        """Memory of the features."""
        return self.features.nbytes

    @cached_property
    def paster(self) -> Paster:
        """Puts animated squares back into the picture."""
        return Paster(self.portrait)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file for :meth:`emo_rt.Animator.load_avatar`. Raises :class:`OutputError`."""
        save_avatar(path, self.portrait, self.features, self.model)

    def close(self) -> None:
        """Give the features back. Safe twice. Animations that start from now on raise :class:`ClosedError`."""
        self.features.close()

    def __enter__(self) -> Avatar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_pasted_back(self, choice: bool | None) -> bool:
        """Whether the animated square goes back into the whole picture; ``None`` = when there is more than it."""
        return not self.portrait.covers_picture if choice is None else choice


def make_avatar(
    model: LoadedModel,
    portrait: Portrait,
    inputs: Mapping[str, Array] | None = None,
    head_room: float | None = None,
    run: Callable[[Generator[None, None, Buffers]], Buffers] = drive,
) -> Avatar:
    """Run the portrait's graphs. ``inputs``: what the model needs beside picture and face box, by tensor name.

    ``run``: does work that comes in slices.
    """
    given = {"face_mask": locator_mask(portrait, model.config, head_room), **(inputs or {})}
    return Avatar(portrait, run(model.portrait_features(to_unit(portrait.pixels), given)), model)


def load_avatar(
    path: str | os.PathLike[str],
    model: LoadedModel,
    run: Callable[[Generator[None, None, Buffers]], Buffers] = drive,
) -> Avatar:
    """An avatar that was saved with this model. ``run``: does work that comes in slices. Raises :class:`InputError`."""
    portrait, features = read_avatar(path, model)

    def write() -> Buffers:
        kept = Buffers(model.backend, model.portrait_tensors())
        for name, array in features.items():
            kept[name].write(array)
        return kept

    return Avatar(portrait, run(whole(write)), model)


def locator_mask(portrait: Portrait, config: ModelConfig, head_room: float | None = None) -> Array:
    """The face locator's picture: (1, channels, size, size) float32, 1 inside the face box and its margin.

    ``head_room``: the margin; ``None`` = the model's. Raises :class:`ConfigError`.
    """
    size, margin = config.size, config.locator.margin if head_room is None else head_room
    check(within(margin, 0, math.inf), "head_room", margin, "0 or more")
    square = Box(0, 0, size, size)
    room = portrait.face.widened(margin).clipped(size, size) if margin < size else square
    return np.repeat(box_mask(room, size)[None, None], config.locator.in_channels, axis=1)
