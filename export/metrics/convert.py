"""``python -m emo_rt.export.metrics.convert NETWORK WEIGHTS -o OUT.onnx``: public weights for ``emo-rt evaluate``.

======== ============================================== ====================
network  weights                                        option of `evaluate`
======== ============================================== ====================
inception pytorch-fid's ``pt_inception-2015-12-05-*.pth`` ``--inception``
i3d      ``rgb_imagenet.pt``, Kinetics-400               ``--i3d``
syncnet  ``syncnet_v2.model``                            ``--syncnet``
deep3d   Deep3DFaceRecon's ``epoch_20.pth``              ``--deep3d``
======== ============================================== ====================

``deep3d`` takes ``--mean-face similarity_Lm3D_all.mat`` of the same project as well. Each file has its own licence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from emo_rt.errors import CheckpointError, ConfigError, EmoRtError, MissingDependencyError
from emo_rt.export.metrics.deep3d import deep3d
from emo_rt.export.metrics.i3d import i3d
from emo_rt.export.metrics.inception import inception
from emo_rt.export.metrics.layers import Weights
from emo_rt.export.metrics.syncnet import syncnet
from emo_rt.files import whole_file

NETWORKS: dict[str, Callable[[Weights], onnx.ModelProto]] = {"inception": inception, "i3d": i3d, "syncnet": syncnet}
"""Those that need nothing but weights."""
DEEP3D, SECTION = "deep3d", "net_recon"


def convert(network: str, weights: Path, out: Path, mean_face: Path | None = None) -> Path:
    """Write the ONNX file, whole or not at all. Raises :class:`CheckpointError`, :class:`ConfigError`."""
    if (mean_face is None) == (network == DEEP3D):
        raise ConfigError("--mean-face goes with deep3d, and deep3d needs it: its five points align the face")
    if mean_face is None:
        model = NETWORKS[network](read_weights(weights))
    else:
        model = deep3d(read_weights(weights, SECTION), read_mean_face(mean_face))
    with whole_file(out.absolute()) as scratch:
        scratch.write_bytes(model.SerializeToString(deterministic=True))
    return out


def read_weights(path: Path, section: str | None = None) -> Weights:
    """Tensors of a torch pickle (no code in it runs) by name. Raises :class:`CheckpointError`."""
    from emo_rt.export.checkpoints.tensors import read_section, read_tensors

    tensors = read_tensors(path) if section is None else read_section(path, section)[0]
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def read_mean_face(path: Path) -> NDArray[np.float64]:
    """(68, 3) landmarks of a MATLAB file. Raises :class:`CheckpointError`, :class:`MissingDependencyError`."""
    try:
        from scipy.io import loadmat
    except ImportError as exc:
        raise MissingDependencyError("reading the mean face needs SciPy: pip install scipy") from exc
    try:
        return np.asarray(loadmat(path)["lm"], np.float64)
    except (OSError, KeyError, ValueError, TypeError) as exc:
        raise CheckpointError(f"{path} cannot be read as similarity_Lm3D_all.mat: {exc}") from exc


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m emo_rt.export.metrics.convert", description=summary)
    parser.add_argument("network", choices=(*NETWORKS, DEEP3D))
    parser.add_argument("weights", type=Path, help="the public file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.onnx")
    parser.add_argument("--mean-face", type=Path, metavar="similarity_Lm3D_all.mat", help="for deep3d")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    given = make_parser().parse_args(argv)
    try:
        out = convert(given.network, given.weights, given.out, given.mean_face)
    except EmoRtError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"{out} {out.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
