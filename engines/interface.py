"""Does an engine take and give exactly what the contract says?"""

from __future__ import annotations

from collections.abc import Sequence

from emo_rt.errors import EngineBuildError
from emo_rt.model.contract import GraphSpec
from emo_rt.model.interface import FoundTensor, interface_problem


def check_interface(spec: GraphSpec, tensors: Sequence[FoundTensor]) -> None:
    """Raise :class:`EngineBuildError` unless names, directions, types and shapes are those of the spec."""
    problem = interface_problem(spec, tensors)
    if problem is not None:
        raise EngineBuildError(f"the engine of graph {spec.name} does not fit the contract: {problem}; export it again")
