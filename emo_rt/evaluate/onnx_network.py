"""A network that the user names as an ONNX file: its hash, its kind, and running it with errors that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.evaluate.identity import NetworkFile, open_onnx
from emo_rt.files import sha256_of
from emo_rt.model.metric_networks import KIND


class OnnxNetwork:
    """One network of a published measure."""

    def __init__(self, path: Path, kind: str, title: str) -> None:
        """Raises :class:`InputError` for a file that is no converted network of that kind."""
        self._session: Any = open_onnx(path)
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        """Of the file."""
        found = self.metadata.get(KIND)
        if found != kind:
            remedy = f"make it with `python -m emo_rt.export.metrics.convert {kind} WEIGHTS -o OUT.onnx`"
            raise InputError(f"{path} is {found or 'no converted network'}; expected {kind}: {remedy}")
        self.network = NetworkFile(title, path.name, sha256_of(path))
        """What reports say of it."""

    def run(self, **inputs: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """The outputs in order. Raises :class:`InputError`."""
        try:
            found = self._session.run(None, inputs)
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise InputError(f"the network {self.network.file} failed: {exc}; convert it again") from exc
        return [np.asarray(one, np.float64) for one in found]
