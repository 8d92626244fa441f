"""`python -m emo_rt.export.parity` on golden folders: the original's, and our own with other settings."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo_rt.export import golden as golden_module
from emo_rt.export.checkpoints.hallo import original_name
from emo_rt.export.golden import FAILED, PASSED, UNUSABLE, check_golden, format_rows, main
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.plain import PlainInputs, plain_prediction
from emo_rt.model.config import AudioConfig, ModelConfig, Wav2VecConfig
from emo_rt.model.contract import AUDIO_REGIONS
from emo_rt.model.solvers import solver_table
from tests.conftest import ExportTiny, hallo_tiny, shared_file
from tests.documents import of_kind
from tests.make_bundles import bundle_model
from tests.small_bundles import golden

torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """Settings of a folder that we make ourselves."""

    size: int = 32
    frames: int = 3
    motion_frames: int = 1
    steps: int = 2
    clips: int = 2
    guidance: float = 3.5
    motion_scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    widths: tuple[int, ...] = (32, 64)


CASES = {
    "odd": Case(frames=5, motion_frames=2, steps=3, motion_scale=(0.5, 1.0, 1.5)),
    "unguided": Case(guidance=1.0, clips=1),
    "deeper": Case(widths=(32, 32, 64), frames=4, motion_frames=3, steps=3, clips=1, guidance=2.0),
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def config_of(case: Case) -> ModelConfig:
    tiny = hallo_tiny()
    encoder = Wav2VecConfig(**{**vars(tiny.audio.encoder), "num_hidden_layers": 2})
    audio: AudioConfig = replace(tiny.audio, encoder=encoder, tokens=3)
    unet = replace(tiny.unet, block_out_channels=case.widths, norm_groups=32)
    names = ("size", "frames", "motion_frames", "guidance")
    fields: dict[str, Any] = {name: getattr(case, name) for name in names}
    return replace(tiny, **fields, decode_frames=1, unet=unet, audio=audio)


def write_weights(model: EmoModel, folder: Path, net: str = "net.safetensors") -> None:
    """The three files under Hallo's names."""
    parts: dict[str, dict[str, Tensor]] = {"vae": {}, "wav2vec": {}, "net": {}}
    for name, tensor in model.state_dict().items():
        part = "vae" if name.startswith("vae.") else "wav2vec" if name.startswith("audio_encoder.") else "net"
        parts[part][original_name(name)] = tensor.contiguous().clone()
    save_file(parts["vae"], folder / "vae.safetensors")
    save_file(parts["wav2vec"], folder / "wav2vec.safetensors")
    torch.save(parts["net"], folder / net) if net.endswith(".pth") else save_file(parts["net"], folder / net)


def write_config(config: ModelConfig, case: Case, folder: Path) -> None:
    encoder = vars(config.audio.encoder)
    content = {
        "block_out_channels": case.widths,
        "audio_layers": config.audio.encoder.num_hidden_layers,
        "audio_context_tokens": config.audio.tokens,
        "attention_heads": config.unet.attention_heads,
        "size": case.size,
        "frames": case.frames,
        "steps": case.steps,
        "clips": case.clips,
        "cfg": case.guidance,
        "motion_scale": case.motion_scale,
        "motion_frames": case.motion_frames,
        "scheduler": SCHEDULER,
        "vae": {"norm_num_groups": config.vae.norm_num_groups, "scaling_factor": config.vae.scaling_factor},
        "wav2vec": dict(encoder.items()),
    }
    (folder / "config.json").write_text(json.dumps(content))


@torch.no_grad()
def vectors(model: EmoModel, case: Case) -> dict[str, Tensor]:
    """What the plain formulation computes, in the stored layouts."""
    config, generator = model.config, torch.Generator().manual_seed(1)
    latent, levels = config.latent_size, len(case.widths)
    total = case.frames * case.clips
    v = {
        "in.wave": torch.randn(1, total * 640, generator=generator) * 0.1,
        "in.source": torch.rand(3, case.size, case.size, generator=generator) * 2 - 1,
        "in.region": (torch.rand(3, case.size, case.size, generator=generator) > 0.5).float(),
        "in.face_emb": torch.randn(1, config.reference.face_embedding_dim, generator=generator),
    }
    for region in AUDIO_REGIONS:
        for level in range(levels):
            v[f"in.{region}_mask.{level}"] = torch.rand(1, (latent >> level) ** 2, generator=generator)
    v["audio.hidden"] = model.audio_encoder(v["in.wave"])
    masks = {level: torch.cat([v[f"in.{r}_mask.{level}"] for r in AUDIO_REGIONS]) for level in range(levels)}
    reference = v["in.source"][None].repeat(1 + case.motion_frames, 1, 1, 1)
    for clip in range(case.clips):
        reference = run_clip(model, case, clip, v, masks, reference, generator)
    return {name: tensor.contiguous().clone() for name, tensor in v.items()}


def run_clip(
    model: EmoModel, case: Case, clip: int, v: dict[str, Tensor], masks: dict[int, Tensor], reference: Tensor,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """One clip into ``v``; gives the next one's reference pictures."""
    config, reach = model.config, model.config.audio.context_frames
    table = solver_table(config.schedule, "ddim", case.steps)
    centres = torch.arange(clip * case.frames, (clip + 1) * case.frames)
    windows = v["audio.hidden"][
        (centres[:, None] + torch.arange(-reach, reach + 1)).clamp(0, len(v["audio.hidden"]) - 1)
    ]
    pictures = torch.cat([vae_network.encode(model.vae, picture[None]) for picture in reference])
    inputs = PlainInputs(
        pictures[:1], v["in.region"][None], pictures[1:], windows, None, v["in.face_emb"], masks,
        torch.tensor(case.motion_scale),
    )  # fmt: skip
    if case.guidance > 1:
        add_reference(model, clip, v, pictures)
    latents = torch.randn(case.frames, 4, config.latent_size, config.latent_size, generator=generator)
    v[f"clip{clip}.noise"] = latents.permute(1, 0, 2, 3)[None]
    v[f"clip{clip}.ref_pixels"], v[f"clip{clip}.audio_tokens"] = reference[None], model.audio_projector(windows)[None]
    for step in range(case.steps):
        prediction = plain_prediction(
            model, latents, torch.tensor(table.timesteps[step : step + 1]), inputs, case.guidance > 1
        )
        v[f"clip{clip}.step{step}.latents"] = latents.permute(1, 0, 2, 3)[None]
        v[f"clip{clip}.step{step}.pred"] = prediction.permute(0, 2, 1, 3, 4)
        p, q, a, b, _, _ = table.coefficients[step].tolist()
        mixed = prediction[0] + case.guidance * (prediction[-1] - prediction[0])
        latents = a * latents + b * (p * latents + q * mixed)
    frames = (vae_network.decode(model.vae, latents) / 2 + 0.5).clamp(0, 1)
    v[f"clip{clip}.frames"] = frames.permute(1, 0, 2, 3)[None]
    return torch.cat([v["in.source"][None], frames[-case.motion_frames :] * 2 - 1])


def add_reference(model: EmoModel, clip: int, v: dict[str, Tensor], pictures: Tensor) -> None:
    """The ReferenceNet's features, which a folder may hold: face tokens alternate over both halves' pictures."""
    pair = [model.face_projector(v["in.face_emb"] * 0), model.face_projector(v["in.face_emb"])]
    tokens = torch.cat(pair).repeat(len(pictures), 1, 1)
    maps = model.reference_net.features(pictures.repeat(2, 1, 1, 1), tokens)
    sites = [site for site in model.sites if site.attention]
    v.update({f"clip{clip}.reference.{s.name}": maps[s.name].flatten(2).transpose(1, 2) for s in sites})


def make_folder(case: Case, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = bundle_model(config_of(case))
    write_weights(model, folder)
    write_config(model.config, case, folder)
    save_file(vectors(model, case), folder / "vectors.safetensors")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_folder(case, tmp_path_factory.mktemp(name)) for name, case in CASES.items()}


@pytest.fixture
def unguided(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the smallest folder that a test may falsify."""
    for file in folders["unguided"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", list(CASES))
def test_other_folders_pass(folders: dict[str, Path], name: str) -> None:
    rows = check_golden(folders[name])
    assert all(row.passed for row in rows), format_rows(rows)
    case = CASES[name]
    assert any("reference_key" in row.what for row in rows) == (case.guidance > 1)
    predictions = case.steps * (2 if case.guidance > 1 else 1)
    rows = [
        row for row in rows if "reference_" not in row.what and "motion." not in row.what.replace("_unconditional", "")
    ]
    assert len(rows) == 1 + case.clips * (4 + case.steps + predictions)


def test_original_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """By the line of docs/models.md."""
    (block,) = of_kind("parity")
    words = shlex.split(block.code.replace("GOLDEN_DIR", str(shared_file("golden/hallo_small"))))
    assert words[:3] == ["python", "-m", "emo_rt.export.parity"]
    assert main(words[3:]) == PASSED
    assert "all within their bounds" in capsys.readouterr().out


def test_runtime_passes(
    folders: dict[str, Path],
    export_tiny: ExportTiny,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a bundle of the folder's weights that was exported before; the next test exports one."""
    assert config_of(CASES["unguided"]) == golden()
    exported = export_tiny(golden(), guidance=(False,))
    monkeypatch.setattr(golden_module, "export_bundle", lambda model, target, options: exported)
    assert main([str(folders["unguided"]), "--backend", "onnxruntime"]) == PASSED
    assert "all within their bounds" in capsys.readouterr().out


@pytest.mark.slow
def test_runtime_passes_with_its_own_export(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folders["unguided"]), "--backend", "onnxruntime"]) == PASSED
    assert "all within their bounds" in capsys.readouterr().out


GIVEN = ("in.source", "in.face_emb", "clip0.noise")
"""Tensors that the run starts from: everything behind them is another number."""
COMPUTED = {
    "audio.hidden": "audio hidden states",
    "clip0.audio_tokens": "clip 0 audio tokens",
    "clip0.step0.latents": "clip 0 step 0 latents",
    "clip0.step1.pred": "clip 0 step 1 conditional",
    "clip0.frames": "clip 0 frames",
    "clip0.ref_pixels": "clip 0 portrait pixels",
}
"""Tensors that the run computes, and the row that each makes fail."""


@pytest.mark.parametrize("name", GIVEN)
def test_one_in_a_thousand_off_where_it_starts_fails(unguided: Path, name: str) -> None:
    tensors = load_file(unguided / "vectors.safetensors")
    tensors[name] = tensors[name] * (0.99 if name == "in.face_emb" else 0.999)  # a LayerNorm takes the face's length
    save_file(tensors, unguided / "vectors.safetensors")
    assert main([str(unguided)]) == FAILED


def test_one_in_a_thousand_off_in_what_it_computes_fails(unguided: Path) -> None:
    """Each in its own row, and in no other."""
    tensors = load_file(unguided / "vectors.safetensors")
    save_file(
        {name: tensor * 0.999 if name in COMPUTED else tensor for name, tensor in tensors.items()},
        unguided / "vectors.safetensors",
    )
    rows = check_golden(unguided)
    failed = {row.what for row in rows if not row.passed}
    assert failed >= set(COMPUTED.values())
    assert not any("step 1 latents" in what or "step 0 conditional" in what for what in failed)


@pytest.mark.parametrize("part", ["net", "vae", "wav2vec"])
def test_other_weights_fail(unguided: Path, part: str) -> None:
    path = unguided / f"{part}.safetensors"
    tensors = load_file(path)
    save_file({name: t * 1.01 if name.endswith("weight") else t for name, t in tensors.items()}, path)
    assert main([str(unguided)]) == FAILED


def test_vectors_that_do_not_fit(unguided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unguided / "vectors.safetensors"
    tensors = load_file(path)
    del tensors["clip0.noise"]
    tensors["clip7.noise"] = torch.zeros(1)
    tensors["clip0.frames"] = tensors["clip0.frames"][..., :-1].contiguous()
    tensors["in.face_emb"][0, 0] = np.nan
    save_file(tensors, path)
    assert main([str(unguided)]) == UNUSABLE
    message = capsys.readouterr().err
    for part in (
        "missing: clip0.noise",
        "not known: clip7.noise",
        "wrong shape: clip0.frames is",
        "NaN or infinite: in",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scheduler": {**SCHEDULER, "clip_sample": True}}, "clip_sample is True"),
        ({"scheduler": {**SCHEDULER, "magic": 1}}, "magic"),
        ({"scheduler": {**SCHEDULER, "prediction_type": "sample"}}, "prediction_type"),
        ({"audio_context_tokens": 9}, "not of these weights"),
        ({"steps": "two"}, "whole number"),
        ({"motion_scale": [1]}, "three numbers"),
    ],
)
def test_settings_that_cannot_be_used(
    unguided: Path, change: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unguided / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert main([str(unguided)]) == UNUSABLE
    assert expected in capsys.readouterr().err
