"""Memory of a GPU is reckoned from the bundle alone. Held against the real library by ``make card``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emo_rt import AnimateOptions, Animator, Bundle, ConfigError
from emo_rt.cli import main
from emo_rt.device.cuda_form.arena import GRAIN, Arena
from emo_rt.device.cuda_form.memory import graph_memory
from emo_rt.device.graph_memory import GraphMemory
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.device.onnxruntime_cuda import onnxruntime_memory
from emo_rt.runtime.gpu_memory import check_limit, check_loading, fitting, memory_need
from emo_rt.runtime.loaded_model import LoadedModel


def test_an_arena_takes_what_is_free_before_it_grows() -> None:
    arena = Arena()
    pieces = [arena.take(10 * GRAIN) for _ in range(3)]
    assert arena.nbytes == 30 * GRAIN
    for piece in pieces:
        arena.give(piece)
    assert arena.take(4 * GRAIN).region == arena.take(5 * GRAIN).region  # one piece, split
    assert arena.nbytes == 30 * GRAIN
    arena.take(11 * GRAIN)  # three regions do not grow together
    assert arena.nbytes == 41 * GRAIN


def test_an_arena_does_not_split_what_leaves_too_little() -> None:
    arena = Arena()
    arena.give(arena.take(10 * GRAIN))
    assert arena.take(6 * GRAIN).size == 10 * GRAIN


def test_neighbours_grow_together_again() -> None:
    arena = Arena()
    arena.give(arena.take(12 * GRAIN))
    parts = [arena.take(4 * GRAIN), arena.take(4 * GRAIN), arena.take(4 * GRAIN)]
    for index in (1, 0, 2):
        arena.give(parts[index])
    arena.take(12 * GRAIN)
    assert arena.nbytes == 12 * GRAIN


def test_a_guided_step_takes_more_than_an_unguided_one(tiny_bundle: Bundle) -> None:
    guided, unguided = (graph_memory(tiny_bundle.graph_path(n), tiny_bundle.dtype) for n in ("step", "step_unguided"))
    assert guided.running > 1.5 * unguided.running > 0
    assert guided.weights == pytest.approx(unguided.weights, rel=0.01)


def test_half_stored_weights_count_as_what_they_become() -> None:
    demo = Bundle.open("demo")
    stored = sum(file.stat().st_size for file in (Path(demo.path) / "graphs").glob("*.bin"))
    assert sum(graph_memory(demo.graph_path(n), demo.dtype).weights for n in ("step", "reference", "clip")) > stored


def test_what_a_run_takes_before_anything_is_loaded() -> None:
    own, unguided = Animator.estimate_memory(), Animator.estimate_memory(guidance=1.0)
    assert own.nbytes > own.counted == own.weights + own.running + own.tensors
    assert own.running > unguided.running
    with pytest.raises(ConfigError, match="preset"):
        Animator.estimate_memory(preset="none")


def test_a_limit_names_what_fits(tiny_bundle: Bundle) -> None:
    options = AnimateOptions()
    own, unguided = (memory_need(tiny_bundle, o, onnxruntime_memory) for o in (options, options.replace(guidance=1.0)))
    assert own is not None
    assert unguided is not None
    check_limit(tiny_bundle, options, onnxruntime_memory, own.nbytes / 1e9 + 1e-6)
    between = (own.nbytes + unguided.nbytes) / 2e9
    assert [words for words, _ in fitting(tiny_bundle, options, onnxruntime_memory, between)] == ["guidance=1"]
    with pytest.raises(ConfigError, match=r"memory_limit is .* these settings fit: guidance=1 \("):
        check_limit(tiny_bundle, options, onnxruntime_memory, between)
    with pytest.raises(ConfigError, match=r"the least that any takes is .* float16 takes less"):
        check_limit(tiny_bundle, options, onnxruntime_memory, 0.1)


def test_graphs_that_are_open_already_count(tiny_bundle: Bundle) -> None:
    alone = memory_need(tiny_bundle, AnimateOptions(guidance=1.0), onnxruntime_memory)
    beside = memory_need(tiny_bundle, AnimateOptions(guidance=1.0), onnxruntime_memory, ["step"])
    assert alone is not None
    assert beside is not None
    assert beside.weights > 1.3 * alone.weights


def test_loading_warns_where_only_other_settings_fit(tiny_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    own, unguided = (Animator.estimate_memory(tiny_bundle.path, **o) for o in ({}, {"guidance": 1.0}))
    check_loading(tiny_bundle, onnxruntime_memory, (own.nbytes + unguided.nbytes) / 2e9)
    assert "these settings fit: guidance=1" in caplog.text
    with pytest.raises(ConfigError):
        check_loading(tiny_bundle, onnxruntime_memory, 0.1)


class Card(OrtBackend):
    """Says what a GPU would."""

    def graph_memory(self, bundle: Bundle, graph: str) -> GraphMemory:
        return onnxruntime_memory(bundle, graph)


def test_a_run_past_the_limit_is_refused_and_the_next_works(tiny_bundle: Bundle) -> None:
    own, unguided = (Animator.estimate_memory(tiny_bundle.path, **o) for o in ({}, {"guidance": 1.0}))
    limit = (own.nbytes + unguided.nbytes) / 2e9
    with LoadedModel(tiny_bundle, Card(threads=1), limit) as model:
        with pytest.raises(ConfigError, match="guidance=1"):
            model.check(AnimateOptions())
        model.check(AnimateOptions(guidance=1.0))
    with pytest.raises(ConfigError, match="no other setting"):
        LoadedModel(tiny_bundle, Card(threads=1), 0.1)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), True, "16"])
def test_a_limit_that_is_none(limit: object) -> None:
    with pytest.raises(ConfigError, match=r"memory_limit is .*expected"):
        Animator.load("demo", memory_limit=limit)  # type: ignore[arg-type]


def test_the_cpu_heeds_no_limit(tiny_bundle: Bundle) -> None:
    with Animator.load(tiny_bundle.path, device="cpu", memory_limit=0.001) as animator:
        assert animator.device == "cpu"


def test_info_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "demo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["gpu_memory"]
    assert told["with_libraries"] > told["counted"] > 1e8
