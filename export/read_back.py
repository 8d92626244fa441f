"""A bundle's weights back in torch, so that eager torch can compute the same clip as the bundle.

The exporter keeps the names of most weights. Matrices of linear layers it stores transposed and unnamed, and of equal
tensors it keeps one; those are found by order: a graph lists its nodes in the order in which torch ran the layers. What
was folded into a constant (a learned null feature; in very small networks the ReferenceNet's time embedding), and
matrices of a graph whose nodes are not its layers one by one (Hallo's ``step``), are taken from the seed in the
export command: right for random weights. Nobody has to trust this: whoever uses it compares the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from emo_rt.errors import BundleError
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.model.bundle import Bundle

LAYERS: tuple[tuple[tuple[str, ...], tuple[type[nn.Module], ...]], ...] = (
    (("MatMul", "Gemm"), (nn.Linear,)),
    (("Conv",), (nn.Conv2d, nn.Conv1d)),
    (("GroupNormalization",), (nn.GroupNorm,)),
    (("LayerNormalization",), (nn.LayerNorm,)),
)
"""ONNX operators, and the layers that become them."""


@torch.no_grad()
def read_back(bundle: Bundle) -> EmoModel:
    """A model with the weights of ``bundle``. Raises :class:`BundleError` where layers and nodes do not match."""
    model = as_exported(bundle)
    for module in graph_modules(model, guidance=(any(graph.guided for graph in bundle.graphs.values()),)):
        graph = ir.load(bundle.graph_path(module.spec.name)).graph
        _copy_by_name(model, graph)
        calls = _needed(module)
        for operators, kinds in LAYERS:
            nodes = [node for node in graph if _is_layer(node, operators)]
            _copy_by_order(
                module.spec.name, nodes, _of_as_many([c for c in calls if isinstance(c.layer, kinds)], nodes)
            )
    return model


def as_exported(bundle: Bundle) -> EmoModel:
    """Random weights of the seed in the bundle's export command: all that there is to know of an untrained bundle."""
    found = re.search(r"--seed[ =](\d+)", str(bundle.provenance.get("command", "")))
    model = build_model(bundle.config, int(found[1]) if found else 0)
    return model.half().float() if bundle.weights == "float16" else model


def _copy_by_name(model: EmoModel, graph: ir.Graph) -> None:
    state = model.state_dict()
    for name, value in graph.initializers.items():
        target = state.get(name.removesuffix("_fp16").removeprefix("model."))
        stored = _stored(value)
        if target is not None and stored is not None and stored.shape == tuple(target.shape):
            target.copy_(torch.from_numpy(stored))


def _copy_by_order(graph: str, nodes: list[ir.Node], layers: list[Any]) -> None:
    for node, layer in zip(nodes, layers, strict=bool(layers)):
        weight = _stored(node.inputs[1])
        if weight is not None:
            _put(graph, layer, weight.T if node.op_type == "MatMul" else weight)
        bias = _stored(node.inputs[2]) if len(node.inputs) > 2 else _added(node)
        if bias is not None and layer.bias is not None and bias.shape == tuple(layer.bias.shape):
            layer.bias.copy_(torch.from_numpy(bias))
        elif len(node.inputs) == 2 and node.op_type == "Conv" and layer.bias is not None:
            layer.bias.zero_()  # exporters drop a bias of zeros


def _put(graph: str, layer: Any, weight: np.ndarray) -> None:
    if weight.shape != tuple(layer.weight.shape):
        raise BundleError(f"graph {graph}: a weight is {weight.shape}, its layer {tuple(layer.weight.shape)}")
    value = torch.from_numpy(np.array(weight))
    if is_parametrized(layer):  # weight normalisation that was folded: split again
        layer.weight = value
    else:
        layer.weight.copy_(value)


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a layer."""

    layer: Any
    """The layer."""
    key: tuple[int, int]
    """The layer and what it was given: exporters merge calls that are equal."""
    constant: bool
    """Whether nothing that it was given depends on an input of the graph: exporters may fold such a call."""


def _of_as_many(calls: list[Call], nodes: Sequence[ir.Node]) -> list[Any]:
    """The layers of the calls that became nodes: all, or without the repeated ones, or the constant ones, or both.

    Empty where none of these has the right number: then there is no telling them apart.
    """
    firsts: dict[tuple[int, int], Call] = {}
    for call in calls:
        firsts.setdefault(call.key, call)
    merged = list(firsts.values())
    for choice in (calls, merged, [c for c in calls if not c.constant], [c for c in merged if not c.constant]):
        if len(choice) == len(nodes):
            return [call.layer for call in choice]
    return []


def _needed(module: GraphModule) -> list[Call]:
    """The calls that a graph's outputs depend on, in order; those at the end of the ReferenceNet are not needed.

    Gradients tell. Pixels are bytes and have none: the decoder needs all of its layers.
    """
    constant = _constant(module)
    calls: list[Call] = []

    def watch(layer: Any, given: Tensor, _: Tensor) -> None:
        digest = hash(given.detach().numpy().tobytes())
        calls.append(Call(layer, (id(layer), digest), constant[len(calls)]))

    with torch.enable_grad(), _watched(module, watch):
        module.model.requires_grad_(True)
        outputs = module(*example_inputs(module.spec, module.model.config).values())
        differentiable = [output.sum() for output in outputs if output.requires_grad]
        if not differentiable:
            return calls
        weights = [next(call.layer.parameters()) for call in calls]
        gradients = torch.autograd.grad(torch.stack(differentiable).sum(), weights, allow_unused=True)
    return [call for call, gradient in zip(calls, gradients, strict=True) if gradient is not None]


def _constant(module: GraphModule) -> list[bool]:
    """Of every call of a layer, in order, whether its output depends on no input of the graph."""
    found: list[bool] = []
    inputs = example_inputs(module.spec, module.model.config).values()
    with torch.enable_grad(), _watched(module, lambda _layer, _given, output: found.append(not output.requires_grad)):
        module(*(tensor.requires_grad_(True) for tensor in inputs))
    return found


@contextmanager
def _watched(module: GraphModule, watch: Callable[[Any, Tensor, Tensor], None]) -> Iterator[None]:
    """Call ``watch`` with each layer that runs, its input and its output; weights want no gradient before and after."""
    kinds = tuple(kind for _, layers in LAYERS for kind in layers)
    with ExitStack() as undo:
        undo.callback(module.model.requires_grad_, False)
        module.model.requires_grad_(False)
        for layer in module.model.modules():
            if isinstance(layer, kinds):
                handle = layer.register_forward_hook(lambda called, given, output: watch(called, given[0], output))
                undo.callback(handle.remove)
        yield


def _is_layer(node: ir.Node, operators: tuple[str, ...]) -> bool:
    """A product of two computed matrices is attention, not a layer."""
    return node.op_type in operators and (node.op_type == "Conv" or _stored(node.inputs[1]) is not None)


def _added(node: ir.Node) -> np.ndarray | None:
    """The constant that is added to a node's output and to nothing else, if there is one."""
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    return next((stored for value in users[0].inputs if (stored := _stored(value)) is not None), None)


def _stored(value: ir.Value | None) -> np.ndarray | None:
    """The array behind a value, float32 where it is stored as fp16; ``None`` where it is computed."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Cast":
        value = producer.inputs[0]
    if value is None or value.const_value is None:
        return None
    array = value.const_value.numpy()
    return np.array(array, np.float32) if array.dtype in (np.float16, np.float32) else None
