"""A network of a published measure, which the user names as an ONNX file: its hash, its kind, and running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.files import sha256_of
from emo_rt.model.metric_networks import KIND
from emo_rt.model.users_network import UsersNetwork


@dataclass(frozen=True)
class NetworkFile:
    """A network that a measure used."""

    name: str
    """What it is."""
    file: str
    """File name."""
    sha256: str
    """Hash of the file."""

    @classmethod
    def of(cls, name: str, path: Path) -> NetworkFile:
        """Raises :class:`InputError` where it cannot be read."""
        try:
            return cls(name, path.name, sha256_of(path))
        except OSError as exc:
            raise InputError(f"the network {path} cannot be read: {exc}") from exc


class OnnxNetwork:
    """One network of a published measure."""

    def __init__(self, path: Path, title: str, kind: str | None = None) -> None:
        """``kind``: of a network that must have been converted by us; ``None`` = any ONNX file.

        Raises :class:`InputError`, :class:`MissingDependencyError`.
        """
        self._session = UsersNetwork(path, "network")
        self.metadata = self._session.metadata
        """Of the file."""
        found = self.metadata.get(KIND)
        if kind is not None and found != kind:
            remedy = f"make it with `python -m emo_rt.export.metrics.convert {kind} WEIGHTS -o OUT.onnx`"
            raise InputError(f"{path} is {found or 'no converted network'}; expected {kind}: {remedy}")
        self.network = NetworkFile.of(title, path)
        """What reports say of it."""
        self._remedy = f"expected a model for {title}" if kind is None else "convert it again"

    def run(self, **inputs: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """The outputs in order. Raises :class:`InputError`."""
        return [np.asarray(one, np.float64) for one in self._session.run(inputs, self._remedy)]

    def run_one(self, picture: NDArray[np.float32]) -> NDArray[np.float64]:
        """The first output of a network that takes one input, flat. Raises :class:`InputError`."""
        return self.run(**{self._session.inputs[0].name: picture})[0].reshape(-1)
