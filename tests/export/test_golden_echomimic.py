"""`python -m emo_rt.export.parity` on folders of EchoMimic's layout: our own, and the original's."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo_rt import Bundle
from emo_rt.export import golden_echomimic
from emo_rt.export.checkpoints.echomimic_folder import site_names
from emo_rt.export.golden import FAILED, PASSED, UNUSABLE, check_golden, format_rows, main
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.plain import PlainInputs, plain_prediction
from emo_rt.media.log_mel import log_mel, mel_filters
from emo_rt.model.solvers import alphas_cumprod, solver_table
from tests.conftest import shared_file
from tests.export.test_echomimic import write
from tests.make_bundles import bundle_model
from tests.small_bundles import echomimic_tiny

torch.set_num_threads(1)

FRAMES = 8
RUNS: dict[str, dict[str, Any]] = {
    "any": {"weights": "base", "steps": 2, "cfg": 2.5, "limit": 7},
    "other": {"weights": "acc", "steps": 1, "cfg": 1.0, "limit": 1200},
    "led": {"weights": "acc", "steps": 1, "cfg": 1.7, "limit": 7},
}
STATED = {
    "size": 32,
    "fps": 24,
    "norm_num_groups": 8,
    "attention_heads": 2,
    "motion_heads": 2,
    "motion_position_max_len": 8,
    "audio_ratio": 3.0,
    "noise_clamp": 1.5,
    "window_shift_per_step": 2,
    "vae": {"norm_num_groups": 8},
    "scheduler": {
        "class": "DDIM", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear", "clip_sample": False,
        "steps_offset": 1, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    "long_audio": {"samples": 17_000, "hidden_from": 40, "chunks_from": 20},
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose vectors the plain formulation has made."""
    folder = tmp_path_factory.mktemp("golden")
    model = bundle_model(echomimic_tiny())
    accelerated = _other_weights(model)
    write(model, folder)
    write(accelerated, folder, end="_acc")
    vectors = _portrait(model) | _sound(model)
    runs = {}
    for name, run in RUNS.items():
        frames = min(run["limit"], FRAMES)
        runs[name] = {**run, "context_frames": 6, "context_overlap": 3, "frames": frames}
        vectors |= _video(accelerated if run["weights"] == "acc" else model, name, runs[name], vectors)
    save_file({name: tensor.contiguous().clone() for name, tensor in vectors.items()}, folder / "vectors.safetensors")
    (folder / "config.json").write_text(json.dumps({**STATED, "runs": runs}))
    return folder


def _other_weights(model: EmoModel) -> EmoModel:
    """Another Backbone; the rest is shared, as published."""
    other = copy.deepcopy(model)
    for tensor in other.backbone.parameters():
        tensor.data.mul_(1.03)
    return other


def _portrait(model: EmoModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    picture = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
    source, mask = picture.permute(2, 0, 1) / 127.5 - 1, torch.rand(32, 32, generator=generator)
    with torch.no_grad():
        latent = vae_network.encode(model.vae, source[None])
        maps = model.reference_net.features(latent)
        face = model.face_locator(mask[None, None])
    sites = site_names(model.config).items()
    features = {f"reference.{name}": maps[site.name].flatten(2).transpose(1, 2) for name, site in sites}
    alphas = torch.from_numpy(alphas_cumprod(model.config.schedule)).float()
    return {"in.picture": picture, "in.source": source, "in.mask": mask, "reference.latent": latent, **features,
            "face.feature": face[:, :, None], "scheduler.alphas_cumprod": alphas}  # fmt: skip


@torch.no_grad()
def _hidden(model: EmoModel, wave: Tensor) -> Tensor:
    mel, found = torch.from_numpy(log_mel(wave.numpy())), []
    for start in range(0, mel.shape[1] - 1, 100):
        piece = mel[:, start : start + 100]
        padded = torch.nn.functional.pad(piece, (0, 100 - piece.shape[1]))
        found.append(model.audio_encoder(padded[None])[: piece.shape[1] // 2])
    return torch.cat(found)


def _chunks(hidden: Tensor) -> Tensor:
    count = -(-(len(hidden) + 1) * 24 // 50) + 1
    rows = [[min(max(50 * i // 24 + j, 0), len(hidden) - 1) for j in range(-4, 6)] for i in range(count)]
    return hidden[torch.tensor(rows)].flatten(1, 2)


def _sound(model: EmoModel) -> dict[str, Tensor]:
    wave = torch.randn(1, 4_200, generator=torch.Generator().manual_seed(2)) * 0.1
    gains = [(1 + k % 5) / 8 for k in range(5)]
    long = torch.cat([wave[0] * gain for gain in gains])[:17_000]
    hidden, long_hidden = _hidden(model, wave[0]), _hidden(model, long)
    assert len(_chunks(hidden)) == FRAMES
    return {
        "in.wave": wave,
        "audio.mel_filters": torch.from_numpy(mel_filters(80)).float(),
        "audio.mel": torch.from_numpy(log_mel(wave[0].numpy())),
        "audio.hidden": hidden,
        "audio.chunks": _chunks(hidden),
        "long.hidden": long_hidden[40:],
        "long.chunks": _chunks(long_hidden)[20:],
    }


def _video(model: EmoModel, name: str, run: dict[str, Any], known: dict[str, Tensor]) -> dict[str, Tensor]:
    frames, guided = run["frames"], run["cfg"] > 1
    noise = torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    found, x = {f"{name}.noise": _stored(noise[None])}, noise.clamp(-1.5, 1.5)
    table = solver_table(model.config.schedule, "ddim", run["steps"])
    tokens = known["audio.chunks"].unflatten(1, (10, 2))
    for step in range(run["steps"]):
        key = f"{name}.step{step}"
        found[f"{key}.latents"] = _stored(x[None])
        total, covered = torch.zeros(1 + guided, *x.shape), torch.zeros(frames, 1, 1, 1)
        for index, start in enumerate(range(0, frames, 3)):
            rows = torch.arange(start + 2 * step, start + 2 * step + 6) % frames
            inputs = PlainInputs(known["reference.latent"], known["in.mask"][None, None], x[:0], tokens[rows])
            at = torch.from_numpy(table.timesteps[step : step + 1].copy())
            prediction = plain_prediction(model, x[rows], at, inputs, guided)
            found[f"{key}.window{index}.pred"] = _stored(prediction)
            total[:, rows] += prediction
            covered[rows] += 1
        average = total / covered
        found[f"{key}.pred"] = _stored(average)
        used = average[0] + run["cfg"] * (average[1] - average[0]) if guided else average[0]
        p, q, a, b, _, _ = table.coefficients[step].tolist()
        x = a * x + b * (p * x + q * used)
    found[f"{name}.latents"] = _stored(x[None])
    if name == "any":
        with torch.no_grad():
            pictures = (vae_network.decode(model.vae, x) / 2 + 0.5).clamp(0, 1)
        found[f"{name}.frames"] = _stored(pictures[None])
    return found


def _stored(tensor: Tensor) -> Tensor:
    """(halves, F, C, h, w) → (halves, C, F, h, w)."""
    return tensor.transpose(1, 2)


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A copy that a test may falsify. Only vectors and settings are its own."""
    for path in golden.iterdir():
        if path.suffix in (".pth", "") or path.is_dir():
            (tmp_path / path.name).symlink_to(path)
        else:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def falsify(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    vectors = load_file(folder / "vectors.safetensors")
    edit(vectors)
    save_file(vectors, folder / "vectors.safetensors")


def keep_runs(folder: Path, *kept: str) -> None:
    """Only these runs, and only their tensors."""
    stated = json.loads((folder / "config.json").read_text())
    left_out = tuple(f"{name}." for name in stated["runs"] if name not in kept)
    stated["runs"] = {name: run for name, run in stated["runs"].items() if name in kept}
    (folder / "config.json").write_text(json.dumps(stated))
    falsify(folder, lambda vectors: [vectors.pop(name) for name in list(vectors) if name.startswith(left_out)])


def test_torch_passes_every_row(golden: Path) -> None:
    rows = check_golden(golden)
    assert all(row.passed for row in rows), format_rows(rows)
    names = {row.what for row in rows}
    assert {"log-mel", "long chunks", "any step 1 window 2 unconditional", "any frames"} <= names
    assert "other step 0 conditional" in names
    assert "other step 0 unconditional" not in names
    assert "led step 0 unconditional" in names  # accelerated weights may be guided
    assert len(rows) > 50


def test_the_exported_bundle_passes_in_the_runtimes_own_worker(
    folder: Path, echomimic_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle that the tests share has the base weights, so only their run."""
    monkeypatch.setattr(golden_echomimic, "export_bundle", lambda model, target, options, variants: echomimic_bundle)
    keep_runs(folder, "any")
    rows = check_golden(folder, "onnxruntime")
    assert all(row.passed for row in rows), format_rows(rows)
    assert any(row.what == "any frames" for row in rows)


def test_the_weights_of_a_run_are_those_that_it_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_runs(folder, "other")
    assert main([str(folder)]) == PASSED
    stated = json.loads((folder / "config.json").read_text())
    stated["runs"]["other"]["weights"] = "base"
    (folder / "config.json").write_text(json.dumps(stated))
    assert main([str(folder)]) == FAILED
    assert re.search(r"other step 0 window 0 conditional .*FAILED", capsys.readouterr().out)


@pytest.mark.parametrize(
    "change",
    [{"cfg": 1.8}, {"steps": 1}, {"context_overlap": 2}, {"context_frames": 5}],
    ids=lambda one: next(iter(one)),
)
def test_a_runs_settings_come_from_the_folder(
    folder: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another number there is another video: it fails, or there are tensors that it does not compare."""
    keep_runs(folder, "any")
    stated = json.loads((folder / "config.json").read_text())
    stated["runs"]["any"].update(change)
    (folder / "config.json").write_text(json.dumps(stated))
    assert main([str(folder)]) in (FAILED, UNUSABLE)
    told = capsys.readouterr()
    assert "FAILED" in told.out or "not compared" in told.err or "does not fit" in told.err


def test_half_precision_keeps_its_bounds(folder: Path) -> None:
    """Weights, activations and sound's states in fp16, 11 bits, on torch; latents, sums and solver stay fp32.

    The bounds are those of ``BOUNDS["fp16"]``: 5e-2 for predictions and latents, 2e-2 and 16/255 for frames. fp32's are
    passed by none of the predictions, so that it is fp16 that was run.
    """
    keep_runs(folder, "any")
    rows = check_golden(folder, dtype="fp16")
    assert all(row.passed for row in rows), format_rows(rows)
    predictions = [row for row in rows if "conditional" in row.what and row.relative > 0]
    assert min(row.relative for row in predictions) > 1e-4
    assert max(row.relative for row in rows) < 1e-2  # measured: 4.3e-3


FALSIFIED = {
    "any.step1.window2.pred": "any step 1 window 2 unconditional",
    "any.step1.pred": "any step 1 unconditional",
    "any.frames": "any frames",
    "other.latents": "other latents",
    "audio.mel": "log-mel",
    "long.hidden": "long hidden",
    "reference.mid_block.attentions.0": "other reference_key.mid",
    "face.feature": "any face feature",
    "scheduler.alphas_cumprod": "alphas_cumprod",
}
"""Tensors, and a row that each makes fail."""


def test_falsified_numbers_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    falsify(folder, lambda vectors: [vectors[name].view(-1)[3:9].add_(0.1) for name in FALSIFIED])
    assert main([str(folder)]) == FAILED
    lines = capsys.readouterr().out.splitlines()
    for what in FALSIFIED.values():
        (row,) = (line for line in lines if line.startswith(f"{what} "))
        assert row.endswith("FAILED")
    assert any(line.startswith("any step 1 window 1 ") and not line.endswith("FAILED") for line in lines)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(new=torch.zeros(1)), "not known, so not compared: new"),
        (lambda v: v.pop("any.step0.window1.pred"), "missing: any.step0.window1.pred"),
        (lambda v: v.update({"audio.hidden": torch.zeros(1, 2, 16)}), r"audio.hidden is \[1, 2, 16\]"),
        (lambda v: v["in.mask"].fill_(float("nan")), "NaN or infinite: in.mask"),
        (lambda v: v.pop("in.wave"), "no in.wave"),
    ],
    ids=["unknown", "missing", "shape", "NaN", "no sound"],
)
def test_vectors_that_do_not_fit_are_named(
    folder: Path, edit: Callable[[Any], Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    falsify(folder, edit)
    assert main([str(folder)]) == UNUSABLE
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "has no runs"),
        ({"runs": {"a": {"weights": "best"}}}, "has no weights"),
        ({"runs": {"a": {**RUNS["any"], "context_frames": 6, "context_overlap": 6, "frames": 7}}}, "context_overlap 6"),
        ({"runs": {"a": {**RUNS["any"], "context_frames": 6, "context_overlap": 3, "frames": 5}}}, "make 7"),
        ({"context_stride": 2}, "context_stride is 2"),
        ({"tokens_per_frame": 21}, "tokens_per_frame 21"),
    ],
    ids=["no runs", "weights", "overlap", "frames", "stride", "widths"],
)
def test_settings_that_do_not_fit_are_named(
    folder: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **change}))
    assert main([str(folder)]) == UNUSABLE
    assert message in capsys.readouterr().err


def test_a_falsified_setting_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, "window_shift_per_step": 1}))
    assert main([str(folder)]) == FAILED
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_numbers_of_the_original(backend: str) -> None:
    rows = check_golden(shared_file("golden/echomimic_small"), backend)
    assert all(row.passed for row in rows), format_rows(rows)
    assert max(row.relative for row in rows if "frames" not in row.what) < 1e-4


@pytest.mark.slow
def test_numbers_of_the_original_in_half_precision() -> None:
    """Within ``BOUNDS["fp16"]``: 11 bits, and guidance weighs each half's error with up to 2.5. Torch's arithmetic in
    fp16 on a CPU is slow, so the exported graphs are not run in it, too."""
    rows = check_golden(shared_file("golden/echomimic_small"), "torch", "fp16")
    assert all(row.passed for row in rows), format_rows(rows)
    assert any(row.relative > 1e-3 for row in rows)
