"""An avatar: a portrait with everything that the networks compute from it once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property

from emo_rt.device.buffers import Buffers
from emo_rt.media.framing import Portrait
from emo_rt.media.paste import Paster
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
    """Portrait latent, reference K/V, face feature, by tensor name: on the device; ``read()`` one to look at it."""
    model: LoadedModel
    """The opened model that made them. For the runtime: not a part of the interface."""

    @property
    def nbytes(self) -> int:
        """Memory of the features."""
        return self.features.nbytes

    @cached_property
    def paster(self) -> Paster:
        """Puts animated squares back into the picture. For the runtime, as ``model``."""
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
    run: Callable[[Generator[None, None, Buffers]], Buffers] = drive,
) -> Avatar:
    """Run the portrait's graphs. ``inputs``: what they take beside the picture, by tensor name; without a
    ``face_mask`` it is that of the portrait's face box. ``run``: does work that comes in slices."""
    given = dict(inputs or {})
    if "face_mask" not in given:
        given["face_mask"] = model.family.face_mask(portrait)
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
