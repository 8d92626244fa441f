"""Golden folders of EchoMimic's layout, made by the plain formulation, and copies that tests falsify."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo_rt.export.checkpoints.echomimic_folder import site_names
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.plain import PlainInputs, plain_prediction
from emo_rt.media.log_mel import log_mel, mel_filters
from emo_rt.model.solvers import alphas_cumprod, solver_table
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


def make_golden(folder: Path) -> Path:
    """A folder whose vectors the plain formulation has made."""
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


def copy_golden(golden: Path, target: Path) -> Path:
    """A copy that a test may falsify. Only vectors and settings are its own."""
    for path in golden.iterdir():
        if path.suffix in (".pth", "") or path.is_dir():
            (target / path.name).symlink_to(path)
        else:
            (target / path.name).write_bytes(path.read_bytes())
    return target


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
