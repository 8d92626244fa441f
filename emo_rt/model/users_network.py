"""A network that a user names as an ONNX file: opened and run on the CPU, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError, MissingDependencyError


class UsersNetwork:
    """One of them, by ONNX Runtime."""

    def __init__(self, path: Path, what: str) -> None:
        """``what``: what it is called in messages. Raises :class:`InputError`, :class:`MissingDependencyError`."""
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as exc:
            raise MissingDependencyError(f"the {what} {path} needs ONNX Runtime; install emo_rt[cpu]") from exc
        if not path.is_file():
            raise InputError(f"there is no {what} {path}; expected an ONNX file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others compute in between
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise InputError(f"the {what} {path} cannot be loaded: {exc}") from exc
        self._path, self._what = path, what
        self.inputs: list[Any] = self._session.get_inputs()
        """As ONNX Runtime describes them: name, type, shape."""
        self.outputs: list[Any] = self._session.get_outputs()
        """The same."""
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        """Of the file."""

    def run(self, inputs: Mapping[str, NDArray[Any]], remedy: str = "give another one") -> list[NDArray[Any]]:
        """The outputs in order. Raises :class:`InputError`, which ends with the remedy."""
        try:
            return [np.asarray(one) for one in self._session.run(None, dict(inputs))]
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise InputError(f"the {self._what} {self._path} failed: {exc}; {remedy}") from exc


__all__ = ["UsersNetwork"]
