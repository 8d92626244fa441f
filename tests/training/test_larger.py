"""The stages that make the demo model larger, in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.networks.vae import encode
from emo_rt.export.presets import preset
from training.corpus import Recording, clip_path, save_arrays
from training.larger import bundle, coder, hearing, kept, locator, pictures, student
from training.larger.base import config
from training.loop import save_atomically
from training.world.speech import available_engines

needs_speech = pytest.mark.skipif(len(available_engines()) < 2, reason="needs `apt-get install espeak-ng flite`")


@pytest.fixture(scope="module")
def small() -> EmoModel:
    """An untrained model for 128×128."""
    return build_model(preset("demo128"), seed=1).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _from_there(small: EmoModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (bundle, hearing, locator, pictures, student):
        monkeypatch.setattr(module, "base", lambda folder: small)
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept.npz")


@pytest.fixture(scope="module")
def drawn(small: EmoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people to train on, one unseen."""
    folder = tmp_path_factory.mktemp("larger")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "base", lambda folder: small)
        pictures.draw(folder, "unseen", "test", range(5_000, 5_001))
        pictures.draw(folder, "train", "train", range(500_000, 500_002))
    return folder


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def journal(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def check_it_goes_on(folder: Path, name: str, train: Callable[..., None], budget: float = 9.0) -> dict[str, float]:
    """Two sittings; a budget is a number of looks at the clock here. The last measures."""
    ticks = count()
    train(folder, budget, lambda: float(next(ticks)))
    steps = journal(folder, name)[-1]["step"]
    train(folder, 2 * budget, lambda: float(next(ticks)))
    assert journal(folder, name)[-1]["step"] > steps >= 2
    return journal(folder, name)[-1]


@needs_speech
def test_latents_are_those_of_the_base_at_half_the_size(drawn: Path, small: EmoModel) -> None:
    pixels, latents = pictures.Drawn.open(drawn, "unseen").units()
    assert pixels.shape == (pictures.PER_CLIP, 3, 256, 256)
    half = nn.functional.avg_pool2d(pixels[:1], 2)
    with torch.no_grad():
        true = encode(small.vae, half)
    torch.testing.assert_close(latents[:1], true, atol=2e-2, rtol=0)  # pixels in 8 bits, latents in 16


def test_a_crop_counts_where_a_run_sees_the_same() -> None:
    """Everywhere at the picture's own border, and behind a margin where the picture goes on."""
    places = np.arange(256, dtype=np.uint8)  # a picture that tells where it was cut
    picture = np.stack(np.broadcast_arrays(places[:, None], places, np.uint8(0)), axis=-1)[None]
    shown = pictures.Drawn(picture, np.zeros((1, 8, 16, 16), np.float16), lambda: 1)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        pixels, latents, counted = pictures.crops(shown, rng)
        assert latents.shape == (pictures.BATCH, 8, pictures.CROP, pictures.CROP)
        for crop, inside in zip(pixels, counted, strict=True):
            top, left = (round(float(crop[channel, 0, 0] + 1) * 127.5) for channel in (0, 1))
            goes_on = (top > 0, top + 160 < 256, left > 0, left + 160 < 256)
            rows, columns = inside[0].any(1), inside[0].any(0)
            margins = [int((~edge[:80]).sum()) for edge in (rows, rows.flip(0), columns, columns.flip(0))]
            assert margins == [pictures.MARGIN * more for more in goes_on]
            seen.add(goes_on)
    assert len(seen) > 4


@needs_speech
@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_the_autoencoder_learns_and_goes_on(drawn: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "BATCH", 1)
    monkeypatch.setattr(coder, "BATCH", 1)
    train = coder.train_decoder if name == "decoder" else coder.train_encoder
    assert np.isfinite(check_it_goes_on(drawn, name, train)["psnr" if name == "decoder" else "error"])
    if name == "decoder":
        with Image.open(drawn / "decoder.png") as sheet:
            assert sheet.size == (4 * 256, 2 * 256)


def test_the_locator_learns_to_say_the_same_of_a_larger_mask(small: EmoModel, tmp_path: Path) -> None:
    masks = locator.masks(np.random.default_rng(0), 12)
    assert masks.shape == (12, 1, 256, 256)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert any(bool(mask.all()) for mask in masks), "some are white"
    fresh = locator.make_locator(small.face_locator)
    assert torch.equal(fresh.conv_out.weight, small.face_locator.conv_out.weight)
    assert fresh(masks[:1]).shape == locator.feature(small.face_locator, masks[:1]).shape
    assert check_it_goes_on(tmp_path, "locator", locator.train_locator)["error"] > 0


def test_hearing_learns_to_do_with_less(small: EmoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "HELD_OUT", 1)
    monkeypatch.setattr(hearing, "SOUNDS", 1)
    rng, none = np.random.default_rng(0), np.zeros(0, np.float32)
    (tmp_path / hearing.VOICES).mkdir()
    for seed in range(2):
        sound = rng.normal(0, 0.1, 20_000).astype(np.float32)
        clip = Recording(np.zeros((0, 8, 8, 3), np.uint8), sound, np.zeros(0, np.int64), none, none, none)
        save_arrays(clip, clip_path(tmp_path / hearing.VOICES, seed))
    assert (hearing.longer(), hearing.shorter()) == (49, 43)
    heard = hearing.states(small.audio_encoder, torch.zeros(1, hearing.samples(49)), 49)
    assert heard.shape == (1, 16, 4, 96)
    assert check_it_goes_on(tmp_path, "hearing", hearing.train_hearing)["error"] > 0


def pool_row(small: EmoModel) -> dict[str, object]:
    """What the teacher would leave for two clips in a row, of noise."""
    torch.manual_seed(0)
    c, s, f = small.config.vae.latent_channels, small.config.latent_size, small.config.frames
    told = {
        "latents": torch.randn(4, f, c, s, s),
        "motion": torch.randn(4, 4, c, s, s),
        "reference": torch.randn(4, c, s, s),
        "windows": torch.randn(4, f, 5, 4, 96),
        "mask": torch.ones(4, 1, 128, 128),
        "speed": torch.zeros(4),
        "weight": torch.ones(4, f, 1, s, s),
        "keep": torch.ones(4, 3),
    }
    rows = [torch.randn(4, f, c, s, s).half() for _ in range(student.ROW)]
    halves = {name: value.half() for name, value in told.items()}
    return {"told": [halves] * student.ROW, "noises": rows, "results": rows}


def test_the_student_changes_its_own_weights_alone(
    small: EmoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "BATCH", 1)
    (tmp_path / student.POOL).mkdir()
    save_atomically(pool_row(small), tmp_path / student.POOL / "00000.pt")
    before = {name: parameter.clone() for name, parameter in small.backbone.named_parameters()}
    assert check_it_goes_on(tmp_path, "student", student.train_student, budget=5)["error"] > 0
    taught = kept.trained(student.Student(build_model(preset("demo128"), seed=1)), "student", tmp_path)
    model = taught.model[0]
    changed = {n for n, p in model.backbone.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(student.is_own(name) for name in changed)
    shared = ("to_k", "to_v", "time_emb", "temporal")
    assert not any(part in name for name in changed for part in shared if "attn1" not in name)
    assert all(torch.equal(p, before[n]) for n, p in small.backbone.named_parameters()), "the teacher stays"


def test_the_parts_make_a_model(small: EmoModel, tmp_path: Path) -> None:
    """The denoiser is the base's, bit for bit; what is kept comes back, in fp16."""
    bundle.keep_all(tmp_path)
    parts = bundle.networks(tmp_path)
    model = bundle.assembled(tmp_path, parts)
    assert model.config.size == 256
    for name, parameter in model.backbone.named_parameters():
        assert torch.equal(parameter, small.backbone.get_parameter(name)), name
    for part, network in (("decoder", model.vae.decoder), ("locator", model.face_locator)):
        assert torch.equal(flat(network), flat(parts[part]))
    latents = torch.randn(1, 8, 16, 16)
    assert torch.equal(model.vae.post_quant_conv(latents), latents), "training does without them"
    one = bundle.taught(tmp_path, parts)
    torch.testing.assert_close(flat(one.backbone), flat(model.backbone), atol=2e-3, rtol=0)  # fp16
    assert config().vae == model.config.vae
