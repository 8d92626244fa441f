"""A bundle of full size whose weights are holes: its graphs are real, its files take no room on the disk.

    python -m tests.card.hollow PRESET FOLDER [--dtype float16] [--deep-cache LAYERS]

For counting kernels, layers and memory where a real export does not fit: nothing of the weights is made, moved or
stored. What such a bundle computes means nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import onnx_ir as ir
import torch
from torch import nn

from emo_rt.export import onnx_export
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.export.presets import preset
from emo_rt.export.weights import PAGE, WeightStore
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig

SMALL = 65_536
"""Elements of a tensor that is not left empty."""


class HollowStore(WeightStore):
    """Gives each tensor its place, and writes nothing there. Tensors of one name are one."""

    def _store(self, tensor: ir.TensorProtocol, file: BinaryIO, file_name: str) -> ir.ExternalTensor:
        key = f"{tensor.name} {tensor.dtype} {tensor.shape}"
        if key not in self._known:
            start = -(-file.seek(0, 2) // PAGE) * PAGE
            file.truncate(start + tensor.nbytes)
            file.seek(start)
            file.write(key.encode()[: tensor.nbytes])  # files are named by their content: no two must be equal
            self._known[key] = (file_name, start, tensor.nbytes)
        location, offset, length = self._known[key]
        return ir.ExternalTensor(
            location, offset, length, tensor.dtype, shape=tensor.shape, name=tensor.name or "", base_dir=self.folder
        )


def hollow_model(config: ModelConfig) -> EmoModel:
    """A model whose memory was never written to."""
    with torch.device("meta"):
        return EmoModel(config).eval().requires_grad_(False)


def with_small_tensors(model: EmoModel) -> EmoModel:
    """The small tensors get values: of those that are equal the tracer keeps one, as with a real model's norms."""
    for tensor in model.parameters():
        if tensor.numel() <= SMALL:
            tensor.uniform_()
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()
    return model


def hollow_bundle(config: ModelConfig, folder: Path, options: ExportOptions) -> Bundle:
    """Export all graphs of a model that has no weights."""

    def converted(model: EmoModel, dtype: torch.dtype) -> EmoModel:
        return with_small_tensors(real(model, dtype).to_empty(device="cpu"))

    real: Any = onnx_export._converted
    with patch.object(onnx_export, "WeightStore", HollowStore), patch.object(onnx_export, "_converted", converted):
        return export_bundle(hollow_model(config), folder, options, report=print)


def main() -> None:
    """Export, guided and unguided."""
    parser = argparse.ArgumentParser(description="A bundle with real graphs and no weights.")
    parser.add_argument("preset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--deep-cache", type=int)
    given = parser.parse_args()
    options = ExportOptions(given.dtype, guidance=(True, False), deep_cache=given.deep_cache, check=False)
    hollow_bundle(preset(given.preset), given.folder, options)


if __name__ == "__main__":
    main()
