"""The diffusion's two borrowed stages from beginning to end, on a few made-up clips and a very small network."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from training import diffusion
from training.borrowed import PRESET, parcel, student, teacher
from training.borrowed.clock import Clock, Trainer
from training.borrowed.footage import NAMES, Footage, Reels
from training.borrowed.look import Scores
from training.corpus import clip_path
from training.encoded import hear as hear_alone

FRAMES = 20
TEACHER_STEPS, STUDENT_STEPS = 8, 12
"""Budgets: the clock goes on by 1 whenever it is looked at, and a stage looks at it once a step."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small layers, other tests beside: more threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    demo = preset(PRESET)
    unet = replace(demo.unet, block_out_channels=(16, 16, 16), norm_groups=8)
    vae = replace(demo.vae, block_out_channels=(8, 8, 8, 8), decoder_channels=(8, 8, 8, 8), latent_channels=4)
    return replace(demo, size=64, frames=4, motion_frames=2, decode_frames=4, unet=unet, vae=vae)


@pytest.fixture(scope="module")
def model(config: ModelConfig) -> EmoModel:
    made = build_model(config, seed=1)
    diffusion.begin(made)
    return made


@pytest.fixture(scope="module")
def clips(config: ModelConfig) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    box = torch.tensor([0.3, 0.2, 0.7, 0.8]).expand(FRAMES, 4) + 0.02 * torch.rand(FRAMES, 1)
    return [
        {
            "frames": torch.randint(0, 256, (FRAMES, config.size, config.size, 3), dtype=torch.uint8),
            "waveform": 0.1 * torch.randn(FRAMES * 640),
            "face_box": box,
            "speed": torch.rand(FRAMES),
            "lips": torch.rand(FRAMES, 3),
        }
        for _ in range(3)
    ]


@pytest.fixture(scope="module")
def footage(model: EmoModel, clips: list[dict[str, torch.Tensor]]) -> Footage:
    return Footage(model, clips, disturbed=1)


def test_many_sounds_are_heard_as_each_alone(model: EmoModel, footage: Footage, clips: list[dict[str, torch.Tensor]]):
    """Half precision of what is stored bounds the difference."""
    alone = torch.cat([hear_alone(model, clip["waveform"].numpy(), FRAMES, "cpu") for clip in clips])
    torch.testing.assert_close(footage.hidden[0].float(), alone, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(footage.hidden[1].float(), alone, atol=0.1)


def test_a_plain_batch_is_what_a_run_has(footage: Footage):
    place = replace(footage.places(2), clip=torch.tensor([0, 2]), first=torch.tensor([0, 8]))
    batch = footage.batch(place, drop=False, plain=True)
    start = 2 * FRAMES + 8
    torch.testing.assert_close(batch.latents[1], footage.latents[start : start + 4].float())
    torch.testing.assert_close(batch.motion[1], footage.latents[start - 2 : start].float())
    torch.testing.assert_close(batch.motion[0], footage.latents[:1].float().expand(2, -1, -1, -1))  # the portrait
    torch.testing.assert_close(batch.windows[1, :, 0], footage.hidden[0, start : start + 4].float())
    assert batch.keep.min() == 1


def test_following_clips_end_with_the_recording(footage: Footage):
    place = replace(footage.places(2), clip=torch.tensor([0, 1]), first=torch.tensor([8, 16]))
    following, there = footage.following(place)
    assert following.first.tolist() == [12, 16]
    assert there.tolist() == [True, False]


def test_teacher_and_student_train_and_travel(
    model: EmoModel, footage: Footage, clips: list[dict[str, torch.Tensor]], tmp_path: Path
):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = Scores(footage, [clip["frames"] for clip in clips], 2)
    torch.manual_seed(7)
    looks = itertools.count().__next__
    teacher.train(model, footage, scores, tmp_path, TEACHER_STEPS, 4, record=False, now=looks)
    slow_pool = itertools.chain([0, 1], itertools.count(100)).__next__
    student.train(model, footage, scores, tmp_path, STUDENT_STEPS, 4, record=False, now=slow_pool)
    for name, value in model.state_dict().items():
        if name.startswith(("vae.", "audio_encoder.")):
            assert torch.equal(value, before[name]), name
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    rows = [json.loads(line) for line in (tmp_path / "student.jsonl").read_text().splitlines()]
    assert {"lips", "fine", "colour", "jitter", "identity"} <= rows[-1].keys()
    assert rows[-1]["step"] == 7, "the pool took the whole budget, but the steps keep their share of it"
    scores.sheet(model, {"student": ("ddim", 1, 1.0)}, tmp_path / "sheet.png", people=1)
    parcel.pack(tmp_path, tmp_path / "result")
    parcel.unpack(tmp_path / "result", tmp_path / "home")
    there, back = (torch.load(tmp_path / f / "student.weights.pt", weights_only=True) for f in ("", "home"))
    assert there.keys() == back.keys()
    for name, value in there.items():
        torch.testing.assert_close(back[name], value.half().float(), rtol=0, atol=0)


def test_the_pool_keeps_to_its_share(model: EmoModel, footage: Footage):
    """Each batch of rows takes a tenth of the budget; two of them end below 0.35, after one look at the start."""
    pool = student.filled(model, footage, 2, Clock(10, now=itertools.count().__next__))
    assert [len(noises) for _, noises, _ in pool.rows] == [student.ROW] * 2


def test_a_trainer_goes_on_where_it_stopped(tmp_path: Path):
    def one() -> tuple[torch.nn.Linear, Trainer]:
        torch.manual_seed(5)
        layer = torch.nn.Linear(3, 2)
        return layer, Trainer(tmp_path / "one.pt", list(layer.parameters()), 0.1)

    layer, trainer = one()
    for _ in range(3):
        trainer.forget()
        layer(torch.ones(4, 3)).square().sum().backward()
        trainer.update(0.0)
    trainer.save(7.0)
    again, resumed = one()
    assert (resumed.step, resumed.used) == (3, 7.0)
    for own, kept in zip(again.parameters(), layer.parameters(), strict=True):
        assert torch.equal(own, kept)
    assert not torch.equal(resumed.average, resumed.flat)


def test_what_is_not_a_number_is_not_saved(tmp_path: Path):
    layer = torch.nn.Linear(2, 1)
    trainer = Trainer(tmp_path / "one.pt", list(layer.parameters()), 0.1)
    trainer.save(0.0)
    kept = trainer.flat.detach().clone()
    with torch.no_grad():
        trainer.flat[0], trainer.average[0] = torch.nan, torch.nan
    trainer.save(1.0)
    assert torch.equal(trainer.flat, kept)
    assert trainer.peak == 0.05


def test_a_stage_that_goes_on_takes_the_whole_corpus(tmp_path: Path) -> None:
    """More clips than are read at once, and one file that cannot be read."""
    count = 40
    for seed in range(count):
        values = {name: np.zeros((2, 3), np.float32) for name in NAMES}
        np.savez(clip_path(tmp_path, seed), **values)
    clip_path(tmp_path, count).write_bytes(b"half a file")
    reels = Reels(tmp_path, "cpu", limit=1000)
    reels.close()
    assert sorted(reels.clips) == list(range(count))
