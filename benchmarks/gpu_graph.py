"""Where does the time of one graph go in ONNX Runtime on a GPU?

Question
    How long does one run of a graph take on a card with the runtime's own provider options, and with others; which
    kinds of kernels take that time?

Theory
    A full-size guided step is 14.65 TMAC (``python -m emo_rt.benchmarks.work --preset emo``): 38 ms at the 770 TFLOP/s
    that an H100 reaches on square matrices in fp16. The rest is memory traffic of small operators, and attention with
    heads of 40.

Expected
    ``use_tf32=0`` costs a third more in fp16: cuDNN's tensor-core plans are dropped. ``prefer_nhwc=1`` pays only where
    norms are channels last, too: the CUDA form sets it there.

Command
    python -m emo_rt.benchmarks.gpu_graph BUNDLE [--graph step] [--onnx FILE]… [--set use_tf32=0]… [--rounds 8]
                                          [--json FILE] [--markdown FILE]
    python -m emo_rt.benchmarks.gpu_graph BUNDLE --device cpu       (rehearsal without a card)

On a card the graph is measured as it is in the bundle (``step``) and in the form that the runtime opens
(``step, CUDA form``; :mod:`emo_rt.device.cuda_form`). ``--onnx`` measures another file on the same inputs beside them.
Outputs are compared with the first's. Kinds of kernels need torch with CUDA; without it that part is left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emo_rt.benchmarks.harness import SCHEMA, Spread, add_outputs, environment, measure, publish, timed
from emo_rt.device.cuda_form import CudaForm, cuda_form
from emo_rt.device.onnxruntime_gpu import PROVIDER, provider_options
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array, TensorSpec

SUMMARY = (__doc__ or "").partition("\n")[0]
KINDS = {
    "convolution": r"conv|fprop|winograd|nchwToNhwc|nhwcToNchw",
    "attention": r"flash|fmha|TransposeQKV|TransposeCtx|ttention",
    "matrix product": r"gemm|nvjet|cutlass|splitK",
    "norm": r"[nN]orm",
    "transpose": r"ranspose",
    "copy": r"emcpy|emset|Concat|Split",
    "other": r"",
}
"""Kind → what the names of its kernels contain; the first that fits counts."""


@dataclass(frozen=True)
class FormTimes(Spread):
    """Times of one form of a graph."""

    open_s: float
    first_s: float
    """First run."""
    kinds_ms: dict[str, float] | None
    """One run by :data:`KINDS`. ``None`` = not on a card, or torch cannot profile."""
    replaced: dict[str, int]
    """What the form has for the graph's own operators; see :class:`emo_rt.device.cuda_form.CudaForm`."""
    relative_error: float
    """The output that is furthest from the first form's: ‖difference‖ / ‖first's‖."""


@dataclass(frozen=True)
class Result:
    """What was measured."""

    benchmark: str
    schema: int
    bundle: str
    """Name of the model."""
    graph: str
    device: str
    options: dict[str, str]
    """Of the CUDA provider."""
    environment: dict[str, Any]
    files: dict[str, FormTimes]


def measure_graph(
    form: CudaForm,
    inputs: Mapping[str, Array],
    outputs: Sequence[TensorSpec],
    options: Mapping[str, str],
    given: argparse.Namespace,
    expected: Mapping[str, Array] | None,
) -> tuple[FormTimes, Mapping[str, Array]]:
    """Times of one form of a graph, and what is expected of the next. ``options``: of the CUDA provider, before the
    form's own; ``expected``: the first form's outputs, ``None`` = this is the first."""
    import onnxruntime  # type: ignore[import-untyped]

    on_card = given.device == "cuda"
    settings = onnxruntime.SessionOptions()
    settings.enable_mem_pattern = False
    settings.log_severity_level = 3
    for key, value in form.session_entries.items():
        settings.add_session_config_entry(key, value)
    start = time.perf_counter()
    providers = [(PROVIDER, {**form.provider_options, **options})] if on_card else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(form.model, settings, providers=providers)
    opened = time.perf_counter()
    binding, values = session.io_binding(), {}
    for name, array in inputs.items():
        values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, given.device, 0)
        binding.bind_ortvalue_input(name, values[name])
    for tensor in outputs:
        shape = [int(size) for size in tensor.shape]
        values[tensor.name] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, np.dtype(tensor.dtype), given.device, 0
        )
        binding.bind_ortvalue_output(tensor.name, values[tensor.name])

    def run() -> None:
        session.run_with_iobinding(binding)

    first, times = timed(run), measure(run, given.rounds)
    gives = {tensor.name: values[tensor.name].numpy() for tensor in outputs}
    expected = expected or gives
    found = FormTimes(
        **vars(times.spread()),
        open_s=opened - start,
        first_s=first,
        kinds_ms=kinds(run) if on_card else None,
        replaced=dict(form.replaced),
        relative_error=max(_distance(gives[name], expected[name]) for name in gives),
    )
    return found, expected


def kinds(run: Any) -> dict[str, float] | None:
    """Milliseconds of one run by kind of kernel; ``None`` without a torch that can profile."""
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
    found = dict.fromkeys(KINDS, 0.0)
    for event in profiler.key_averages():
        found[next(kind for kind, names in KINDS.items() if re.search(names, event.key))] += (
            event.device_time_total / 1e3
        )
    return found


def random_inputs(bundle: Bundle, graph: str) -> dict[str, Array]:
    """Values of every input. Raises ``SystemExit`` for a graph with a dynamic axis."""
    rng, values = np.random.default_rng(0), {}
    for tensor in bundle.graphs[graph].inputs:
        if not all(isinstance(size, int) for size in tensor.shape):
            raise SystemExit(f"error: graph {graph} has a dynamic axis; choose another")
        values[tensor.name] = rng.standard_normal(tensor.shape, np.float32).astype(tensor.dtype)  # type: ignore[arg-type]
    return values


def run(given: argparse.Namespace) -> Result:
    """Measure the bundle's own file, the form that the runtime makes of it, and the others beside them."""
    bundle = Bundle.open(given.bundle, verify=False)
    options = {**provider_options(bundle.dtype), **dict(one.split("=", 1) for one in given.set)}
    inputs, outputs = random_inputs(bundle, given.graph), bundle.graphs[given.graph].outputs
    path = bundle.graph_path(given.graph)
    forms = {path.stem: CudaForm(str(path))}
    if given.device == "cuda":
        forms[f"{path.stem}, CUDA form"] = cuda_form(path, bundle.dtype)
    forms |= {Path(file).stem: CudaForm(file) for file in given.onnx}
    files: dict[str, FormTimes] = {}
    expected: Mapping[str, Array] | None = None
    for name, form in forms.items():
        files[name], expected = measure_graph(form, inputs, outputs, options, given, expected)
    return Result(
        benchmark="gpu_graph",
        schema=SCHEMA,
        bundle=bundle.config.name,
        graph=given.graph,
        device=given.device,
        options=options,
        environment=environment(None),
        files=files,
    )


def _distance(found: Array, expected: Array) -> float:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-9))


def table(files: Mapping[str, FormTimes]) -> str:
    """A row per file."""
    rows = ["| file | ms | " + " | ".join(KINDS) + " | error |", "|---|---:|" + "---:|" * (len(KINDS) + 1)]
    for name, way in files.items():
        parts: Mapping[str, float | None] = way.kinds_ms or dict.fromkeys(KINDS)
        cells = ["–" if value is None else f"{value:.1f}" for value in parts.values()]
        rows.append(f"| `{name}` | {way.median_s * 1e3:.1f} | {' | '.join(cells)} | {way.relative_error:.1e} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.gpu_graph", description=SUMMARY)
    add_outputs(parser)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--graph", default="step")
    parser.add_argument("--onnx", metavar="FILE", action="append", default=[], help="another file of the same graph")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="an option of the CUDA provider"
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or not all("=" in one for one in given.set):
        parser.error("--rounds is 1 or more, --set is NAME=VALUE")
    result = run(given)
    publish(result, table(result.files), given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
