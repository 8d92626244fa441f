"""The built-in face networks on whatever runs ONNX files here: the narrow place between faces and backends.

A network is one array in, arrays by name out, on the CPU. ONNX Runtime is taken where it is installed, else OpenVINO:
both give the same numbers to rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import BackendError, MissingDependencyError

Floats: TypeAlias = NDArray[np.float32]
Network: TypeAlias = Callable[[Floats], Mapping[str, Floats]]
"""Runs once. Safe to share between threads."""

NETWORKS = {"detector": ("boxes", "logits"), "landmarks": ("points", "presence"), "blendshapes": ("scores",)}
"""The files ``emo_rt/assets/faces/{name}.onnx``, and their outputs in order; NOTICE says where they come from."""
FOLDER = Path(__file__).parent.parent / "assets" / "faces"
"""Where they lie."""
RUNTIMES = ("onnxruntime", "openvino")
"""Packages that can run them, in the order in which they are tried."""


def asset(name: str) -> Path:
    """A file that ships with the face networks."""
    return FOLDER / name


def find_runtime() -> str:
    """The package that will run the networks. Raises :class:`MissingDependencyError` where there is none."""
    for package in RUNTIMES:
        if is_installed(package):
            return package
    raise MissingDependencyError(
        "finding faces needs ONNX Runtime or OpenVINO; install emo_rt[cpu] or emo_rt[openvino], "
        "or say where the face is with face_box / --face-box left,top,right,bottom (pixels)"
    )


def is_installed(package: str) -> bool:
    """Whether it can be imported, without importing it."""
    return sys.modules[package] is not None if package in sys.modules else util.find_spec(package) is not None


def open_network(name: str, runtime: str | None = None) -> Network:
    """One of :data:`NETWORKS`, with one CPU thread: it is too small for more.

    ``runtime``: one of :data:`RUNTIMES`; ``None`` = :func:`find_runtime`. Raises :class:`MissingDependencyError`,
    :class:`BackendError` when the runtime refuses the file.
    """
    path = asset(f"{name}.onnx")
    opener = {"onnxruntime": _in_onnxruntime, "openvino": _in_openvino}[runtime or find_runtime()]
    try:
        return opener(path, NETWORKS[name])
    except Exception as exc:  # neither runtime's errors have a base class
        raise BackendError(f"the face network {path.name} cannot be loaded: {exc}") from exc


def _in_onnxruntime(path: Path, outputs: Sequence[str]) -> Network:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = (node.name for node in session.get_inputs())

    def run(array: Floats) -> Mapping[str, Floats]:
        return dict(zip(outputs, session.run(list(outputs), {source: array}), strict=True))

    return run


def _in_openvino(path: Path, outputs: Sequence[str]) -> Network:
    from emo_rt.device.openvino import import_openvino

    # bfloat16 is the plugin's default on some processors, and moves landmarks by a pixel.
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model: Any = import_openvino().Core().compile_model(str(path), "CPU", exact)

    def run(array: Floats) -> Mapping[str, Floats]:
        request = model.create_infer_request()  # one request is not safe to share
        request.infer([np.ascontiguousarray(array)])
        return {name: request.get_output_tensor(place).data.copy() for place, name in enumerate(outputs)}

    return run
