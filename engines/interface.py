"""Does an engine take and give exactly what the contract says?"""

from __future__ import annotations

from collections.abc import Sequence

from emo_rt.engines.facts import DYNAMIC, EngineTensor
from emo_rt.errors import EngineBuildError
from emo_rt.model.contract import GraphSpec


def check_interface(spec: GraphSpec, tensors: Sequence[EngineTensor]) -> None:
    """Raise :class:`EngineBuildError` unless names, directions, types and shapes are those of the spec."""
    sides = [(tensor, True) for tensor in spec.inputs] + [(tensor, False) for tensor in spec.outputs]
    expected = {
        tensor.name: EngineTensor(tensor.name, is_input, tensor.dtype, _sizes(tensor.shape))
        for tensor, is_input in sides
    }
    found = {tensor.name: tensor for tensor in tensors}
    wrong = [name for name in (*expected, *(set(found) - set(expected))) if expected.get(name) != found.get(name)]
    if wrong:
        shown = "; ".join(f"{_text(found.get(name))}, expected {_text(expected.get(name))}" for name in wrong[:3])
        raise EngineBuildError(f"the engine of graph {spec.name} does not fit the contract: {shown}; export it again")


def _sizes(shape: Sequence[int | str]) -> tuple[int, ...]:
    return tuple(DYNAMIC if isinstance(size, str) else size for size in shape)


def _text(tensor: EngineTensor | None) -> str:
    if tensor is None:
        return "no such tensor"
    return f"{'input' if tensor.is_input else 'output'} {tensor.name} {tensor.dtype}{list(tensor.shape)}"
