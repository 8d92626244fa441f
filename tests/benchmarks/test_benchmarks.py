"""The benchmarks count right, compare like with like, and print what their docstrings say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emo_rt import Bundle
from emo_rt.benchmarks import split, work
from emo_rt.benchmarks.agreement import DisagreementError, torch_threads
from emo_rt.benchmarks.harness import as_json
from emo_rt.benchmarks.original import OriginalClip
from emo_rt.export.networks.backbone import BackboneBlock
from emo_rt.export.networks.model import build_model
from emo_rt.export.networks.plain import plain_prediction
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import sites
from emo_rt.model.families.registry import graph_specs
from tests.conftest import hallo_tiny
from tests.make_bundles import bundle_model
from tests.small_bundles import echomimic_tiny

CONFIGS: dict[str, Callable[[], ModelConfig]] = {
    "emo": lambda: preset("tiny"),
    "emo, zero nulls": lambda: split.small_config("emo-small", quick=True),
    "hallo": hallo_tiny,
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]()


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def test_counts_of_a_spatial_block_are_those_by_hand() -> None:
    config = hallo_tiny()
    site = sites(config.unet)[0]
    frames, tokens, width = config.frames, 64, site.channels
    face = config.reference.face_tokens
    features = {f"reference_{part}.{site.name}": meta(2, tokens, width) for part in ("key", "value")}
    for kind in ("face", "face_null"):
        features |= {f"{kind}_{part}.{site.name}": meta(1, face, width) for part in ("key", "value")}
    with torch.device("meta"):
        block = BackboneBlock(config, site)
    with torch.no_grad(), work.MacCounter(block) as counter:
        block(meta(2 * frames, tokens, width), site, features, True)
    one_layer = 2 * frames * tokens * width**2
    counts = counter.counts
    assert counts["/attn1.to_k"] == counts["/attn1.to_v"] == counts["/attn1.to_out.0"] == one_layer
    assert counts["/attn1.to_q core"] == 2 * frames * tokens * width * (2 * tokens + tokens)  # with reference + without
    assert counts["/attn2.to_q core"] == 2 * 2 * frames * tokens * width * face
    assert counts["/ff.net.0.proj"] == 8 * one_layer
    assert counts["/ff.net.2"] == 4 * one_layer
    cores = counts["/attn1.to_q core"] + counts["/attn2.to_q core"]
    assert sum(counts.values()) == (4 + 2 + 12) * one_layer + cores


def test_counts_of_a_temporal_module_are_those_by_hand() -> None:
    config = replace(preset("tiny"), speed=None)
    frames, motion, width, side = config.frames, config.motion_frames, 16, 4
    with torch.device("meta"):
        module = TemporalModule(config, width)
    with torch.no_grad(), work.MacCounter(module) as counter:
        module(meta(2 * frames, width, side, side), meta(2 * side**2, motion, width), None)
    pixels, joined = 2 * side**2, motion + frames
    linear = (frames + 4 * joined + 2 * joined + 2 * frames + 12 * frames + frames) * width**2
    cores = 2 * width * (joined * joined + frames * joined)
    assert sum(counter.counts.values()) == pixels * (linear + cores)


def test_what_depends_on_no_variable_is_not_counted() -> None:
    layer = torch.nn.Linear(4, 8, device="meta")
    data, constant = meta(3, 4), meta(3, 4)
    with torch.no_grad(), work.MacCounter(layer, [data]) as counter:
        layer(constant)
        layer((data + 1).relu())
    assert sum(counter.counts.values()) == 3 * 4 * 8


def test_the_original_does_at_least_our_work_in_every_part(config: ModelConfig) -> None:
    counted = work.count_work(config, steps=3)
    assert all(row.ours <= row.original for row in counted.rows)
    assert counted.total.ours < counted.total.original
    assert counted.total.ours == sum(row.ours for row in counted.rows)
    steps = counted.graphs
    once = steps["reference"] + steps["clip"]
    vae = sum(row.ours for row in counted.rows if row.part.startswith("VAE"))
    assert counted.total.ours - vae == once + 3 * (steps["timestep"] + steps["step"])


def test_reference_projections_are_those_by_hand() -> None:
    config, steps = hallo_tiny(), 3
    row = next(row for row in work.count_work(config, steps).rows if row.part == "reference K/V")
    per_picture = sum(
        2 * (config.latent_size >> site.level) ** 2 * site.channels**2 for site in sites(config.unet) if site.attention
    )
    assert (row.original, row.ours) == (steps * 2 * config.frames * per_picture, 2 * per_picture)


def test_every_module_of_every_preset_belongs_to_one_part(config: ModelConfig) -> None:
    parts = {row.part for row in work.count_work(config, steps=1).rows}
    hallo = config.reference.face_tokens > 0
    assert ("face-token K/V" in parts) == hallo
    assert ("reference attention without K/V" in parts) != hallo


def test_the_originals_order_gives_the_plain_numbers(config: ModelConfig) -> None:
    model = bundle_model(config)
    values, noise = split._inputs(model)
    inputs, timestep = work.plain_inputs(values), torch.tensor([499.0])
    plain = plain_prediction(model, noise, timestep, inputs)
    original = OriginalClip(model, inputs).predict(noise, timestep)
    assert plain.shape == original.shape
    assert torch.linalg.norm(plain - original) <= 1e-5 * torch.linalg.norm(plain)


def test_a_window_of_echomimic_is_counted_and_computed_in_the_originals_order() -> None:
    config = echomimic_tiny()
    counted = work.count_work(config, steps=2)
    assert all(row.ours <= row.original for row in counted.rows)
    assert counted.total.ratio > 1.05
    assert counted.graphs["clip"] == 0
    model, generator = bundle_model(config), torch.Generator().manual_seed(0)
    specs = [spec for spec in graph_specs(config) if spec.role in ("reference", "step")]
    values = {t.name: torch.randn(t.shape, generator=generator) for spec in specs for t in spec.inputs}
    inputs, timestep = work.plain_inputs(values), torch.tensor([499.0])
    plain = plain_prediction(model, values["latents"], timestep, inputs)
    original = OriginalClip(model, inputs).predict(values["latents"], timestep)
    assert torch.linalg.norm(plain - original) <= 1e-5 * torch.linalg.norm(plain)


@pytest.mark.parametrize("fixture", ["tiny_bundle", "hallo_bundle"])
def test_all_ways_agree_and_are_compared(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(fixture)
    result = split.compare(bundle, bundle_model(bundle.config), steps=3, rounds=2)
    assert set(result.errors) == set(split.WAYS)
    assert all(error <= split.BOUND for error in result.errors.values())
    assert all(ratio > 0 for ratio in result.ratios.values())
    assert result.counted > 1
    assert json.loads(as_json(result))["ratios"] == result.ratios
    assert split.table({"small": result}).count("\n") == 3


def test_other_weights_are_not_compared(tiny_bundle: Bundle) -> None:
    with pytest.raises(DisagreementError, match="onnxruntime differs from plain"):
        split.compare(tiny_bundle, build_model(tiny_bundle.config), steps=1, rounds=1)


def test_numbers_that_are_not_finite_are_not_compared() -> None:
    finals = {name: np.ones(3) for name in split.WAYS} | {"split": np.array([1, np.nan, 1])}
    with pytest.raises(DisagreementError, match="split differs"):
        split.check_agreement(finals)


def test_threads_of_torch_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["hallo-small", "emo-small"])
def test_small_configs_have_the_layout_of_the_full_ones(name: str) -> None:
    small, full = split.small_config(name), preset(name.removesuffix("-small"))
    assert (small.frames, small.motion_frames) == (full.frames, full.motion_frames)
    assert (small.reference.mode, small.reference.face_tokens) == (full.reference.mode, full.reference.face_tokens)
    assert small.audio.attention == full.audio.attention
    assert (small.speed is None) == (full.speed is None)
    assert small.schedule == full.schedule


def test_work_prints_a_table_and_then_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
    assert work.main(["--preset", "tiny", "--steps", "2", *files]) == 0
    *text, line = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert result["benchmark"] == "work"
    assert result["ratio"] > 1
    assert any(row.startswith("| reference K/V |") for row in text)
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert (tmp_path / "out.md").read_text().splitlines() == text[:-1]


def test_split_prints_a_table_and_then_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hallo_bundle: Bundle
) -> None:
    def from_cache(name: str, steps: int, rounds: int, threads: int, quick: bool) -> dict[str, object]:
        assert (name, steps, rounds, threads, quick) == ("hallo-small", 2, 1, 1, True)
        return split.compare(hallo_bundle, bundle_model(hallo_bundle.config), steps, rounds, threads)

    monkeypatch.setattr(split, "measure", from_cache)  # the export takes a minute
    assert split.main(["--config", "hallo-small", "--quick"]) == 0
    *text, line = capsys.readouterr().out.splitlines()
    assert list(json.loads(line)["configs"]) == ["hallo-small"]
    assert any(row.startswith("| hallo-small, 6 frames, 2 steps |") for row in text)


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--steps", "x"]])
@pytest.mark.parametrize("main", [work.main, split.main])
def test_wrong_arguments_are_refused(main: Callable[[list[str]], int], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
