"""Does a graph, an engine or a session have the tensors that the contract says? One place for the comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emo_rt.model.contract import GraphSpec

DYNAMIC = -1
"""A size that is known only at a run."""


@dataclass(frozen=True)
class FoundTensor:
    """A tensor as it was found."""

    name: str
    """Its name."""
    is_input: bool
    """Input or output."""
    dtype: str | None = None
    """``float16``; ``None`` = nobody asked."""
    shape: tuple[int, ...] | None = None
    """Sizes, :data:`DYNAMIC` for a dynamic axis; ``None`` = nobody asked."""

    def __str__(self) -> str:
        shape = "" if self.shape is None else list(self.shape)
        return f"{'input' if self.is_input else 'output'} {self.name} {self.dtype or ''}{shape}".rstrip()


def interface_problem(spec: GraphSpec, found: Iterable[FoundTensor]) -> str | None:
    """The first three tensors that are not as ``spec`` says, in words; ``None`` if all are.

    What nobody asked of a found tensor is not compared. The order does not matter.
    """
    there = {tensor.name: tensor for tensor in found}
    expected = {tensor.name: tensor for tensor in _of(spec)}
    names = [*expected, *(name for name in there if name not in expected)]
    wrong = [name for name in names if not _fits(there.get(name), expected.get(name))]
    rows = [f"{there.get(name, 'no such tensor')}, expected {expected.get(name, 'no such tensor')}" for name in wrong]
    return "; ".join(rows[:3]) or None


def _of(spec: GraphSpec) -> list[FoundTensor]:
    sides = [(tensor, True) for tensor in spec.inputs] + [(tensor, False) for tensor in spec.outputs]
    return [
        FoundTensor(
            tensor.name,
            is_input,
            tensor.dtype,
            tuple(DYNAMIC if isinstance(size, str) else size for size in tensor.shape),
        )
        for tensor, is_input in sides
    ]


def _fits(found: FoundTensor | None, expected: FoundTensor | None) -> bool:
    if found is None or expected is None:
        return False
    asked = (found.dtype in (None, expected.dtype), found.shape in (None, expected.shape))
    return found.is_input == expected.is_input and all(asked)
