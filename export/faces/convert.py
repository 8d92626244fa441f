"""``python -m emo_rt.export.faces.convert face_landmarker_v2.task -o emo_rt/assets/faces``: converts the face networks.

The ``.task`` file of Google's Face Landmarker is a zip of three TensorFlow Lite networks and of the geometry of a
standard face, from which the head pose is read. The result is the same on every machine, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emo_rt.errors import ExportError
from emo_rt.export.faces.geometry import standard_face
from emo_rt.export.faces.tflite import read_network
from emo_rt.export.faces.to_onnx import to_onnx

TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""The file that the package's networks come from."""
GEOMETRY = "geometry_pipeline_metadata_landmarks.binarypb"
"""The standard face in the ``.task`` file."""


@dataclass(frozen=True)
class Source:
    """One network of the ``.task`` file."""

    file: str
    """Its name in the zip."""
    name: str
    """The graph's name, and the file's: ``{name}.onnx``."""
    input: str
    """What its input is called in ONNX."""
    outputs: Mapping[int, str]
    """What its outputs are called, by their place; others are dropped."""


NETWORKS = (
    Source("face_detector.tflite", "detector", "picture", {0: "boxes", 1: "logits"}),
    Source("face_landmarks_detector.tflite", "landmarks", "crop", {0: "points", 1: "presence"}),
    Source("face_blendshapes.tflite", "blendshapes", "points", {0: "scores"}),
)


def convert(task: Path, out: Path) -> dict[str, Path]:
    """Write the three ONNX files and the standard face. Returns their paths by name. Raises :class:`ExportError`."""
    digest = hashlib.sha256(task.read_bytes()).hexdigest()
    if digest != TASK_SHA256:
        raise ExportError(f"{task} has sha256 {digest}; expected face_landmarker_v2.task with {TASK_SHA256}")
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    with zipfile.ZipFile(task) as archive:
        for source in NETWORKS:
            network = read_network(archive.read(source.file))
            model = to_onnx(network, source.name, [source.input], source.outputs)
            written[source.name] = out / f"{source.name}.onnx"
            written[source.name].write_bytes(model.SerializeToString(deterministic=True))
        written["standard_face"] = out / "standard_face.json"
        written["standard_face"].write_text(standard_face(archive.read(GEOMETRY)), encoding="utf-8")
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.export.faces.convert", description=__doc__)
    parser.add_argument("task", type=Path, help="face_landmarker_v2.task")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder for the ONNX files")
    args = parser.parse_args(argv)
    for path in convert(args.task, args.out).values():
        sys.stdout.write(f"{path} {path.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
