"""Whether a bundle's graphs and its configuration agree: whoever runs them may rely on the shapes of both."""

from __future__ import annotations

from collections.abc import Set

from emo_rt.errors import BundleError
from emo_rt.model.bundle import MANIFEST, Bundle
from emo_rt.model.contract import GraphSpec, TensorSpec
from emo_rt.model.families.registry import graph_specs


def check_agreement(bundle: Bundle) -> None:
    """Raise :class:`BundleError` where a graph takes or gives a tensor in another form than the configuration says.

    Tensors that the family does not know are left alone: a later export may have more. So is what goes from one graph
    to another: its form depends on the export (guidance, precision, whether heads lie apart).
    """
    given = {tensor.name for graph in bundle.graphs.values() for tensor in graph.outputs}
    taken = {tensor.name for graph in bundle.graphs.values() for tensor in graph.inputs}
    between = given & taken
    steps = [graph.guided for graph in bundle.graphs.values() if graph.role == "step"]
    guidance = [guided for guided in (True, False) if guided in steps]
    expected = {_kind(graph): graph for graph in graph_specs(bundle.config, bundle.dtype, guidance)}
    for name, graph in bundle.graphs.items():
        like = expected.get(_kind(graph))
        if like is not None:
            _compare(bundle, f"graph {name} takes", graph.inputs, like.inputs, between)
            _compare(bundle, f"graph {name} gives", graph.outputs, like.outputs, between)


def _kind(graph: GraphSpec) -> tuple[str, bool, bool]:
    return graph.role, graph.guided, graph.cached


def _compare(
    bundle: Bundle, what: str, written: tuple[TensorSpec, ...], like: tuple[TensorSpec, ...], between: Set[str]
) -> None:
    wanted = {tensor.name: tensor for tensor in like}
    missing = sorted(set(wanted) - {tensor.name for tensor in written})
    if missing:
        raise _contradiction(bundle, f"{what} no {', '.join(missing)}, which the configuration needs")
    for tensor in written:
        form = _form(tensor)
        other = wanted.get(tensor.name)
        if other is not None and form != _form(other) and tensor.name not in between:
            raise _contradiction(bundle, f"{what} {tensor.name} of {form}, by the configuration it is {_form(other)}")


def _form(tensor: TensorSpec) -> str:
    return f"shape {tensor.shape} {tensor.dtype}"


def _contradiction(bundle: Bundle, what: str) -> BundleError:
    return BundleError(f"{bundle.path / MANIFEST} contradicts itself: {what}; export the bundle again")
