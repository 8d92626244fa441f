"""Weights of all graphs of a bundle in flat files beside the graphs, each tensor stored once.

Two graphs that share a network (``reference`` and ``clip`` share the ReferenceNet, ``step`` and ``step_unguided`` the
Backbone) refer to the same bytes. The files are named after graphs until all are written, then by their content:
:mod:`emo_rt.model.weight_files`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx_ir as ir

INLINE_BYTES = 1024
"""Smaller tensors stay inside the graph."""

PAGE = 4096
"""Large tensors start at a page, so that a runtime can map them instead of reading them."""


class WeightStore:
    """Writes ``<graph>.bin`` files; :meth:`move_out` replaces a graph's initializers by references to them."""

    def __init__(self, folder: Path, half: bool) -> None:
        """``half``: store fp32 weights as fp16 and widen them inside the graph."""
        self.folder, self.half = folder, half
        self._known: dict[str, tuple[str, int, int]] = {}

    def move_out(self, model: ir.Model, name: str) -> None:
        """Move the initializers of ``model`` to ``<name>.bin`` or to where another graph stored the same bytes."""
        if self.half:
            _store_half(model.graph)
        path = self.folder / f"{name}.bin"
        with path.open("wb") as file:
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and tensor.nbytes >= INLINE_BYTES:
                    value.const_value = self._store(tensor, file, path.name)
        if path.stat().st_size == 0:
            path.unlink()

    def _store(self, tensor: ir.TensorProtocol, file, file_name: str) -> ir.ExternalTensor:  # type: ignore[no-untyped-def]
        data = tensor.tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            file.write(b"\0" * (-file.tell() % (PAGE if len(data) >= PAGE else 64)))
            self._known[digest] = (file_name, file.tell(), len(data))
            file.write(data)
        location, offset, length = self._known[digest]
        return ir.ExternalTensor(
            location, offset, length, tensor.dtype, shape=tensor.shape, name=tensor.name or "", base_dir=self.folder
        )


def _store_half(graph: ir.Graph) -> None:
    """fp32 initializers → fp16 + Cast. Runtimes fold the Cast when they load: the arithmetic stays fp32.

    Only what fp16 holds exactly: weights were rounded before; what was computed from them (a null feature, a folded
    weight norm) stays fp32, or the bundle would compute something else than the rounded weights do.
    """
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < INLINE_BYTES:
            continue
        wide = tensor.numpy()
        with np.errstate(over="ignore"):
            halved = wide.astype(np.float16)
        if not np.array_equal(halved.astype(np.float32), wide):
            continue
        narrow = ir.Value(name=f"{name}_fp16", const_value=ir.tensor(halved))
        narrow.const_value.name = narrow.name  # type: ignore[union-attr]
        cast = ir.node("Cast", [narrow], attributes={"to": ir.DataType.FLOAT})
        cast.outputs[0].name = f"{name}_fp32"
        cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        graph.initializers.pop(name)
        graph.register_initializer(narrow)
        graph.insert_before(graph[0], cast)
