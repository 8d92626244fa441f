"""An avatar: a portrait with everything that the networks compute from it once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from emo_rt.device.buffers import Buffers
from emo_rt.errors import ClosedError
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
    """Portrait latent, reference K/V, face feature, by tensor name: on the device; ``read()`` one to look at it. Those
    of the default preset's variant of the weights."""
    model: LoadedModel
    """The opened model that made them. For the runtime: not a part of the interface."""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """What :meth:`LoadedModel.kept_inputs` names. For the runtime, as ``model``."""
    _of_others: dict[str, Buffers] = field(default_factory=dict, repr=False)
    """Features of other variants, by the graph that made them."""

    @property
    def nbytes(self) -> int:
        """Memory of the features, of all variants that were asked for."""
        return self.features.nbytes + sum(features.nbytes for features in list(self._of_others.values()))

    def features_of(self, variant: str, run: Callable[[Generator[None, None, Buffers]], Buffers] = drive) -> Buffers:
        """The features as a variant of the weights projects them; made when they are first asked for.

        For the runtime, as ``model``. ``run``: does work that comes in slices. Raises :class:`ClosedError`.
        """
        graph = self.model.reference_graph(variant)
        if graph == self.model.reference_graph():
            return self.features
        if graph not in self._of_others:
            self._require_open()
            made = run(self.model.portrait_features(to_unit(self.portrait.pixels), self.inputs, variant))
            if self._of_others.setdefault(graph, made) is not made:  # another thread was faster
                made.close()
            if self.features.is_closed:  # in the meantime
                self.close()
                self._require_open()
        return self._of_others[graph]

    def _require_open(self) -> None:
        if self.features.is_closed:
            raise ClosedError("this avatar was closed; prepare the picture again")

    @cached_property
    def paster(self) -> Paster:
        """Puts animated squares back into the picture. For the runtime, as ``model``."""
        return Paster(self.portrait)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file for :meth:`emo_rt.Animator.load_avatar`. Raises :class:`OutputError`."""
        save_avatar(path, self.portrait, self.features, self.model, self.inputs)

    def close(self) -> None:
        """Give the features back. Safe twice. Animations that start from now on raise :class:`ClosedError`."""
        for features in (self.features, *list(self._of_others.values())):
            features.close()

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
    kept = {tensor.name: given[tensor.name] for tensor in model.kept_inputs() if tensor.name in given}
    return Avatar(portrait, run(model.portrait_features(to_unit(portrait.pixels), given)), model, kept)


def load_avatar(
    path: str | os.PathLike[str],
    model: LoadedModel,
    run: Callable[[Generator[None, None, Buffers]], Buffers] = drive,
) -> Avatar:
    """An avatar that was saved with this model. ``run``: does work that comes in slices. Raises :class:`InputError`."""
    portrait, features, inputs = read_avatar(path, model)

    def write() -> Buffers:
        kept = Buffers(model.backend, model.portrait_tensors())
        for name, array in features.items():
            kept[name].write(array)
        return kept

    return Avatar(portrait, run(whole(write)), model, inputs)
