"""The networks of published metrics as ONNX files: what their converter and ``emo-rt evaluate`` agree on."""

from __future__ import annotations

from collections.abc import Mapping

KIND = "emo_rt.metric_network"
"""Metadata of the file: which network it is."""
MEAN_FACE = "emo_rt.mean_face"
"""Metadata of ``deep3d``: (5, 3) points as JSON; eyes (the person's right one first), nose, corners of the mouth."""
INPUTS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "inception": {"picture": (3, 299, 299)},
    "i3d": {"clip": (3, 16, 224, 224)},
    "syncnet": {"lips": (3, 5, 224, 224), "sound": (1, 13, 20)},
    "deep3d": {"picture": (3, 224, 224)},
}
"""Network → name → shape of an input without its first dimension, which is free."""


def free_inputs(network: str) -> dict[str, list[int | str]]:
    """The inputs as an ONNX file declares them."""
    return {name: ["n", *shape] for name, shape in INPUTS[network].items()}
