"""The stage that draws pictures twice as large from the same latents, in small."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import larger
from training.world.speech import available_engines

pytestmark = pytest.mark.skipif(len(available_engines()) < 2, reason="needs `apt-get install espeak-ng flite`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people to train on, one unseen."""
    folder = tmp_path_factory.mktemp("larger")
    larger.draw(folder, "unseen", "test", range(5_000, 5_001))
    larger.draw(folder, "train", "train", range(500_000, 500_002))
    return folder


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(larger, "KEPT", tmp_path / "larger.npz")


def flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_latents_are_those_of_the_packaged_model_at_half_the_size(folder: Path) -> None:
    pixels, latents = larger.Drawn.open(folder, "unseen").units()
    assert pixels.shape == (larger.PER_CLIP, 3, 256, 256)
    half = torch.nn.functional.avg_pool2d(pixels[:1], 2)
    with torch.no_grad():
        true = larger.encode(larger.packaged_vae(), half)
    torch.testing.assert_close(latents[:1], true, atol=2e-2, rtol=0)  # pixels in 8 bits, latents in 16


def test_a_crop_counts_where_a_run_sees_the_same() -> None:
    """Everywhere at the picture's own border, and behind a margin where the picture goes on."""
    places = np.arange(256, dtype=np.uint8)  # a picture that tells where it was cut
    picture = np.stack(np.broadcast_arrays(places[:, None], places, np.uint8(0)), axis=-1)[None]
    drawn = larger.Drawn(picture, np.zeros((1, 8, 16, 16), np.float16), lambda: 1)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        pixels, latents, counted = larger.crops(drawn, rng)
        assert latents.shape == (larger.BATCH, 8, larger.CROP, larger.CROP)
        for crop, inside in zip(pixels, counted, strict=True):
            top, left = (round(float(crop[channel, 0, 0] + 1) * 127.5) for channel in (0, 1))
            goes_on = (top > 0, top + 160 < 256, left > 0, left + 160 < 256)
            rows, columns = inside[0].any(1), inside[0].any(0)
            margins = [int((~edge[:80]).sum()) for edge in (rows, rows.flip(0), columns, columns.flip(0))]
            assert margins == [larger.MARGIN * more for more in goes_on]
            seen.add(goes_on)
    assert len(seen) > 4


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_it_learns_goes_on_and_keeps(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget is a number of looks at the clock here."""
    monkeypatch.setattr(larger, "BATCH", 1)
    train = larger.train_decoder if name == "decoder" else larger.train_encoder
    ticks = count()
    train(folder, 12.0, lambda: float(next(ticks)))
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    steps = rows[-1]["step"]
    train(folder, 24.0, lambda: float(next(ticks)))
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] > steps > 2
    measure = "psnr" if name == "decoder" else "error"
    assert np.isfinite(rows[-1][measure])
    if name == "decoder":
        with Image.open(folder / "decoder.png") as sheet:
            assert sheet.size == (4 * 256, 2 * 256)
    larger.keep(folder)
    network = larger.LightDecoder(larger.VAE) if name == "decoder" else larger.LightEncoder(larger.VAE)
    fresh = flat(network)
    kept = flat(larger.started(network, name))
    trainer = larger.Trainer(folder / f"{name}.pt", list(network.parameters()), 1.0)
    torch.testing.assert_close(kept, trainer.average, atol=1e-3, rtol=1e-3)
    assert not torch.equal(fresh, kept)
