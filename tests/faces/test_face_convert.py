"""The converter: what ships is what it makes, and computes what OpenVINO computes from Google's own files."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from emo_rt.device.openvino import import_openvino
from emo_rt.errors import ExportError
from emo_rt.export.faces.convert import NETWORKS, Source, convert
from emo_rt.export.faces.geometry import standard_face
from emo_rt.export.faces.tflite import read_network
from emo_rt.faces.networks import asset, open_network
from tests.faces.face_pictures import TASK, needs_task

TOLERANCE = 1e-4
"""Largest difference, in parts of the output's largest number."""


@needs_task
def test_the_files_that_ship_are_the_converters(tmp_path: Path) -> None:
    for path in convert(TASK, tmp_path).values():
        assert path.read_bytes() == asset(path.name).read_bytes(), path.name


@needs_task
@pytest.mark.parametrize("source", NETWORKS, ids=lambda source: source.name)
def test_equal_to_openvino_on_the_original(source: Source, tmp_path: Path) -> None:
    with zipfile.ZipFile(TASK) as archive:
        original = Path(archive.extract(source.file, tmp_path))
    peer = import_openvino().Core().compile_model(str(original), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ours = open_network(source.name, "onnxruntime")
    shape = [side.get_length() if side.is_static else 1 for side in peer.inputs[0].partial_shape]
    for seed in range(3):
        array = np.random.default_rng(seed).random(shape, np.float32) * (200 if len(shape) == 3 else 1)
        theirs, found = peer([array]), ours(array)
        for place, name in source.outputs.items():
            wanted = theirs[place]
            assert found[name].shape == wanted.shape
            assert np.abs(found[name] - wanted).max() <= TOLERANCE * max(1, np.abs(wanted).max())


@needs_task
def test_weights_stay_halves() -> None:
    onnx = pytest.importorskip("onnx")
    for source in NETWORKS:
        constants = onnx.load(asset(f"{source.name}.onnx")).graph.initializer
        halves = sum(np.prod(each.dims) for each in constants if each.data_type == onnx.TensorProto.FLOAT16)
        assert halves > 0.97 * sum(np.prod(each.dims) for each in constants)


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.task"
    other.write_bytes(b"PK")
    with pytest.raises(ExportError, match=r"expected face_landmarker_v2\.task with 64184e22"):
        convert(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_tflite_file() -> None:
    with pytest.raises(ExportError, match="no TensorFlow Lite file"):
        read_network(b"\x00" * 64)


def test_standard_face_of_a_small_mesh() -> None:
    """Two vertices of five numbers; the second is the only weighted landmark."""
    numbers = [0.0] * 5 + [1.0, 2.0, 3.0, 0.5, 0.5]
    mesh = b"".join(b"\x1d" + struct.pack("<f", number) for number in numbers)
    basis = b"\x08\x01\x15" + struct.pack("<f", 0.25)
    message = b"\x0a" + bytes([len(mesh)]) + mesh + b"\x12" + bytes([len(basis)]) + basis
    wanted = '{"points": [\n{"landmark": 1, "weight": 0.25, "x": 1.0, "y": 2.0, "z": 3.0}\n]}\n'
    assert standard_face(message) == wanted


def test_an_unknown_wire_type_is_refused() -> None:
    with pytest.raises(ExportError, match="wire type 3"):
        standard_face(b"\x0b")
