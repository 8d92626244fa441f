"""What the stages of training are made of: the corpus on disk, the autoencoder's latents, what is trained when."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from emo_rt.export.graph_modules import example_inputs, graph_modules  # noqa: E402
from emo_rt.export.networks.model import EmoModel, build_model  # noqa: E402
from emo_rt.export.networks.vae import decode, encode  # noqa: E402
from emo_rt.export.onnx_export import ExportOptions, export_bundle  # noqa: E402
from emo_rt.export.presets import preset  # noqa: E402
from emo_rt.runtime.clips import split_into_clips  # noqa: E402
from training import diffusion, hearing, stages  # noqa: E402
from training.autoencoder import Pictures, crop, standardise, to_pixels, turn_hues, unlikeness  # noqa: E402
from training.bundle import unpack_bundle  # noqa: E402
from training.corpus import Recording, available, clip_path, detector_box, render_clip, save_arrays  # noqa: E402
from training.encoded import (  # noqa: E402
    EYES_WEIGHT,
    MOUTH_WEIGHT,
    EncodedClip,
    Footage,
    encode_corpus,
    hear,
    hear_twice,
    importance,
    see,
)
from training.world.speech import available_engines  # noqa: E402

FRAMES, SIZE = 40, 128


@pytest.fixture(scope="module")
def model() -> EmoModel:
    return build_model(preset("demo128"))


def recording(seed: int = 0) -> Recording:
    """Noise in the form of a clip: what is tested here needs no drawing."""
    rng = np.random.default_rng(seed)
    box = np.tile(np.array([0.25, 0.2, 0.75, 0.85], np.float32), (FRAMES, 1)) + rng.normal(0, 0.01, (FRAMES, 4))
    return Recording(
        frames=rng.integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
        waveform=rng.normal(0, 0.1, FRAMES * 640).astype(np.float32),
        phonemes=rng.integers(0, 20, FRAMES),
        lips=rng.random((FRAMES, 3)).astype(np.float32),
        face_box=box.astype(np.float32),
        speed=rng.random(FRAMES).astype(np.float32),
    )


@pytest.fixture(scope="module")
def encoded(model: EmoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    for seed in range(2):
        clip = recording(seed)
        latents, hidden = see(model, clip.frames, "cpu"), hear_twice(model, clip, seed, "cpu")
        save_arrays(EncodedClip(latents, hidden, clip.face_box, clip.speed), clip_path(folder, seed))
    return folder


def test_recording_survives_the_disk(tmp_path: Path) -> None:
    original = recording()
    save_arrays(original, clip_path(tmp_path, 7))
    assert available(tmp_path) == [7]
    loaded = Recording.load(clip_path(tmp_path, 7))
    for field in dataclasses.fields(Recording):
        assert np.array_equal(getattr(loaded, field.name), getattr(original, field.name)), field.name
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.skipif(not available_engines(), reason="needs `apt-get install espeak-ng flite`")
def test_clips_without_pictures_have_sound_and_lips(tmp_path: Path) -> None:
    render_clip(3, tmp_path, 1.0, SIZE, sound_only=True)
    heard = Recording.load(clip_path(tmp_path, 3))
    assert heard.frames.shape == (0, SIZE, SIZE, 3)
    assert len(heard.phonemes) == len(heard.lips) == 25
    assert len(heard.waveform) == 16_000
    assert len(hearing.Voices.load(tmp_path, tmp_path / "none").clips) == 1


def test_detector_box_is_inside_the_head_at_the_forehead() -> None:
    head = np.array([[0.2, 0.1, 0.8, 0.9]], np.float32)
    left, top, right, bottom = detector_box(head)[0]
    assert top > 0.15, "hair line and crown are outside the detector's box"
    assert left == pytest.approx(0.2, abs=0.05)
    assert right == pytest.approx(0.8, abs=0.05)
    assert bottom > 0.85


def test_crops_stay_inside() -> None:
    frame = np.arange(SIZE * SIZE * 3, dtype=np.uint32).reshape(SIZE, SIZE, 3)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert crop(frame, np.array([0.0, 0.0, 1.0, 1.0]), rng, 64).shape == (64, 64, 3)


def test_standardised_latents_decode_the_same(tmp_path: Path) -> None:
    save_arrays(recording(), clip_path(tmp_path, 0))
    pictures = Pictures(tmp_path, kept=2)
    vae = build_model(preset("demo128"), seed=1).vae
    pixels = to_pixels(recording().frames[:4])
    before = decode(vae, encode(vae, pixels))
    standardise(vae, pictures, "cpu", count=64)
    latents = encode(vae, pixels)
    assert torch.allclose(decode(vae, latents), before, atol=2e-3 * float(before.abs().max()))
    assert latents.mean().abs() < 0.3
    assert 0.5 < latents.std() < 2


def test_clips_are_encoded_once_and_again_after_new_weights(model: EmoModel, tmp_path: Path) -> None:
    (tmp_path / stages.CORPUS).mkdir()
    save_arrays(recording(), clip_path(tmp_path / stages.CORPUS, 0))
    stages.save_parts(model, tmp_path, "vae", "hearing")
    path = clip_path(tmp_path / stages.ENCODED, 0)
    encode_corpus(tmp_path, "cpu")
    first = path.stat()
    encode_corpus(tmp_path, "cpu")
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    for part, other in (("vae", "hidden"), ("hearing", "latents")):
        before = EncodedClip.load(path)
        marked = dataclasses.replace(before, latents=before.latents + 1, hidden=before.hidden + 1)
        save_arrays(marked, path)
        long_ago = first.st_mtime - 60
        for name in ("vae", "hearing"):
            os.utime(tmp_path / f"{name}.weights.pt", (0, long_ago + 30 if name == part else long_ago - 30))
        os.utime(path, (0, long_ago))
        encode_corpus(tmp_path, "cpu")
        after = EncodedClip.load(path)
        again = "latents" if part == "vae" else "hidden"
        assert np.array_equal(getattr(after, again), getattr(before, again)), "made anew"
        assert np.array_equal(getattr(after, other), getattr(marked, other)), "kept"
        save_arrays(before, path)


def test_hues_turn_around_grey() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 190, (400, 4, 4, 3), dtype=np.uint8)
    frames[:, 0, 0] = 100
    before = to_pixels(frames)
    after = turn_hues(before, rng)
    turned = (after != before).flatten(1).float().mean(dim=1) > 0.5
    assert 0.15 < turned.float().mean() < 0.35
    assert torch.equal(after[~turned], before[~turned])
    assert torch.allclose(after[:, :, 0, 0], before[:, :, 0, 0], atol=1e-5), "grey stays"
    assert not torch.allclose(after[turned], before[turned], atol=0.05)
    assert after.abs().max() <= 1


def test_a_wrong_colour_costs_more_than_as_much_noise() -> None:
    """An error of the mean colour under a latent weighs more than the same error as noise."""
    pixels = torch.zeros(1, 3, 32, 32)
    noise = 0.1 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)).sign()
    colour = torch.tensor([0.1, -0.1, 0.1])[None, :, None, None].expand_as(pixels)
    assert unlikeness(colour, pixels)["colour"] > 20 * unlikeness(noise, pixels)["colour"]
    assert unlikeness(colour, pixels)["square"] == pytest.approx(float(unlikeness(noise, pixels)["square"]))


def test_training_hears_what_the_runtime_hears(model: EmoModel) -> None:
    """Hidden states window by window, as `emo_rt.runtime.clips` gives them to the `clip` graph."""
    sound = recording().waveform
    config = model.config
    with torch.no_grad():
        clips = list(
            split_into_clips(config, lambda w: model.audio_encoder(torch.from_numpy(w)[None]).numpy(), [sound])
        )
        ours = hear(model, sound, FRAMES, "cpu").numpy()
    middle = config.audio.context_frames
    theirs = np.concatenate([clip.windows[: clip.frames, middle] for clip in clips])
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(ours).max() + 1e-5


def test_encoded_clip(encoded: Path) -> None:
    clip = EncodedClip.load(clip_path(encoded, 1))
    assert clip.latents.shape == (FRAMES, 8, 16, 16)
    assert clip.hidden.shape == (2, FRAMES, 4, 96)
    assert not np.array_equal(clip.hidden[0], clip.hidden[1]), "the second is of a disturbed sound"


def fitting_mask(boxes: np.ndarray) -> np.ndarray:
    """The pixels that any of the boxes touches."""
    edges = np.arange(SIZE)
    inside = [(edges + 1 > boxes[:, axis].min() * SIZE) & (edges < boxes[:, axis + 2].max() * SIZE) for axis in (0, 1)]
    return np.outer(inside[1], inside[0]).astype(np.float32)


@pytest.mark.parametrize("first", ["zeros", "portrait"])
def test_examples(encoded: Path, model: EmoModel, first: str) -> None:
    config, rng = dataclasses.replace(model.config, first_motion=first), np.random.default_rng(0)
    footage = Footage(encoded, config, "cpu")
    seen_first = seen_motion = seen_white = seen_fit = 0
    fitting = [fitting_mask(clip.face_box) for clip in footage.clips]
    for _ in range(60):
        example = footage.video(rng)
        assert example.latents.shape == (config.frames, 8, 16, 16)
        assert example.motion.shape == (config.motion_frames, 8, 16, 16)
        assert example.windows.shape == (config.frames, 5, 4, 96)
        assert set(example.mask.unique().tolist()) <= {0.0, 1.0}
        seen_white += bool(example.mask.min() == 1)
        seen_fit += any(np.array_equal(example.mask[0, 0], mask) for mask in fitting)
        beginning = example.reference if first == "portrait" else torch.zeros(1)
        is_first = bool((example.motion == beginning).all())
        seen_first += is_first
        seen_motion += not is_first
    assert seen_first >= 5
    assert seen_motion >= 20
    assert 1 <= seen_white <= 20, "heads that stay seldom have a white one"
    assert 12 <= seen_fit <= 50, "masks that tell how far the head goes"


def test_motion_comes_just_before(encoded: Path, model: EmoModel) -> None:
    """With the noise of generated frames taken off, motion frames and latents are consecutive."""
    footage = Footage(encoded, model.config, "cpu")
    clips = [clip.latents.astype(np.float32) for clip in footage.clips]
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(40):
        example = footage.video(rng)
        if torch.equal(example.motion, example.reference.expand_as(example.motion)):
            continue
        first = example.latents[0].numpy()
        place = next((c, int(i)) for c in clips for i in [np.abs(c - first).sum(axis=(1, 2, 3)).argmin()]
                     if np.allclose(c[i], first))  # fmt: skip
        clip, index = place
        speeds = next(known.speed for known, c in zip(footage.clips, clips, strict=True) if c is clip)
        assert example.speed.numpy() == pytest.approx(speeds[index : index + model.config.frames].mean())
        distance = np.abs(example.motion.numpy() - clip[index - 4 : index]).mean()
        wrong = np.abs(example.motion.numpy() - clip[index : index + 4]).mean()
        assert distance < wrong
        checked += 1
    assert checked > 10


def test_importance() -> None:
    weight = importance(np.array([[0.25, 0.25, 0.75, 0.75]]), 16)
    assert weight.shape == (1, 1, 16, 16)
    rows, columns = np.nonzero(weight[0, 0] == 1 + MOUTH_WEIGHT)
    assert rows.min() >= 8, "the mouth is in the lower half of the face"
    assert columns.min() >= 5
    assert columns.max() <= 10
    rows, columns = np.nonzero(weight[0, 0] == 1 + EYES_WEIGHT)
    assert 5 <= rows.min() < rows.max() <= 8
    assert (columns.min(), columns.max()) == (5, 10)
    assert (weight[0, 0, :4] == 1).all()


def test_clips_in_a_row(encoded: Path, model: EmoModel) -> None:
    """The second clip follows the first: its motion frames are the first one's last, but for the noise on them."""
    footage, rng = Footage(encoded, model.config, "cpu"), np.random.default_rng(0)
    videos = [torch.from_numpy(clip.latents).float() for clip in footage.clips]
    for _ in range(10):
        before, after = footage.clips_in_a_row(rng)
        both = torch.cat([before.latents, after.latents])
        assert any(torch.equal(both, rows) for video in videos for rows in video.unfold(0, 24, 1).movedim(-1, 1))
        assert (after.motion - before.latents[-model.config.motion_frames :]).std() < 0.25
        assert torch.equal(before.reference, after.reference)
        assert torch.equal(before.mask, after.mask)


def test_errors_that_tremble_cost_more() -> None:
    weight = torch.ones(4, 1, 2, 2)
    still, trembling = (
        torch.ones(4, 8, 2, 2),
        torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None].expand(4, 8, 2, 2),
    )
    assert diffusion.losses(still, still.diff(dim=0), weight, 0.5)["total"] == pytest.approx(1.0)
    assert diffusion.losses(trembling, trembling.diff(dim=0), weight, 0.0)["total"] == pytest.approx(1.0)
    assert diffusion.losses(trembling, trembling.diff(dim=0), weight, 0.5)["total"] == pytest.approx(3.0)
    assert diffusion.losses(trembling, trembling.diff(dim=0), weight, 0.5)["picture"] == pytest.approx(1.0)


def test_a_clip_that_keeps_a_mistake_is_steady(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame is compared with motion frames of the network's own making: one that is wrong as they are does
    not flicker, one that is right does."""
    model = build_model(preset("demo128"), seed=4)
    monkeypatch.setattr(diffusion, "OWN", 1)
    seen = []
    monkeypatch.setattr(diffusion, "losses", lambda error, changes, *_: seen.append((error, changes)))
    footage = Footage(encoded, model.config, "cpu")

    def perfect(noisy: torch.Tensor, *_: object, guided: bool) -> torch.Tensor:
        """All clips come out as the truth plus a constant."""
        return torch.cat([velocity(noisy)] * (2 if guided else 1))

    def velocity(noisy: torch.Tensor) -> torch.Tensor:
        clip = drawn.pop(0)
        assert torch.equal(clip.noisy, noisy)
        return clip.velocity - 0.3 / clip.sigma

    drawn: list[diffusion.Noised] = []
    noised = diffusion.Noised

    def remember(*values: torch.Tensor) -> diffusion.Noised:
        drawn.append(noised(*values))
        return drawn[-1]

    monkeypatch.setattr(diffusion, "Noised", remember)
    monkeypatch.setattr(model.backbone, "forward", perfect)
    diffusion.diffusion_loss(model, footage, "joint", "cpu")(np.random.default_rng(2))
    error, changes = seen[0]
    assert changes.shape == error.shape
    assert changes.abs().max() < 1e-3
    assert error.abs().min() > 0.29


def test_noise_and_back() -> None:
    """v of noised latents leads back to them."""
    latents, noise = torch.randn(2, 12, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    for level in (0.0, 0.3, 0.99):
        alpha, sigma = torch.full((1, 1, 1, 1), level).sqrt(), torch.full((1, 1, 1, 1), 1 - level).sqrt()
        clip = diffusion.Noised(latents, noise, alpha, sigma, torch.zeros(1))
        assert torch.allclose(clip.denoised(clip.velocity), latents, atol=1e-5)


def test_disturbed_sound_keeps_its_length_and_range() -> None:
    rng = np.random.default_rng(0)
    sound = np.sin(np.arange(28800) * 0.1).astype(np.float32)
    for _ in range(10):
        heard = hearing.disturb(sound, rng)
        assert heard.shape == sound.shape
        assert heard.dtype == np.float32
        assert np.abs(heard).max() <= 1
        assert not np.allclose(heard, sound, atol=0.01)
    silent = hearing.disturb(np.zeros(28800, np.float32), rng)
    assert np.isfinite(silent).all()


def one_thread() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


@pytest.mark.slow  # an export, and reading weights back runs every graph, forwards and backwards
def test_unpacked_weights_compute_what_the_bundle_computes(tmp_path: Path) -> None:
    """Every graph, in torch with the weights that training would go on from. To one per cent: the bundle has its
    constants (centres of the speed buckets) rounded to fp16, and a wrong weight is far off."""
    untrained = build_model(preset("demo128"), seed=6)
    bundle = export_bundle(untrained, tmp_path / "base", ExportOptions(half_storage=True, check=False))
    unpack_bundle(tmp_path)
    model = stages.load_model(tmp_path, "vae", "hearing", "speed")
    for module in graph_modules(model):
        given = example_inputs(module.spec, model.config)
        with torch.no_grad():
            ours = module(*given.values())
        session = onnxruntime.InferenceSession(str(bundle.graph_path(module.spec.name)), one_thread())
        theirs = session.run(
            [o.name for o in module.spec.outputs], {name: value.numpy() for name, value in given.items()}
        )
        for one, other in zip(ours, theirs, strict=True):
            difference = np.abs(one.numpy().astype(np.float32) - other).max()
            assert difference <= 1e-2 * np.abs(other.astype(np.float32)).max() + 1e-5, module.spec.name


def test_stages_train_what_the_paper_says(model: EmoModel) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = {stage: {names[id(p)] for p in diffusion.trainable(model, stage)} for stage in diffusion.STAGES}
    assert not any("temporal" in n or "audio" in n or "speed" in n for n in chosen["image"])
    assert any(n.startswith("reference_net.") for n in chosen["image"])
    assert any(n.startswith("face_locator.") for n in chosen["image"])
    assert chosen["image"] < chosen["video"]
    assert any("attn_audio" in n for n in chosen["video"])
    assert not any("speed" in n for n in chosen["video"])
    controls = ("speed_encoder.", "face_locator.")
    assert all("temporal_modules" in n or n.startswith(controls) for n in chosen["speed"])
    assert any("attn_speed" in n for n in chosen["speed"])
    assert chosen["joint"] == chosen["video"] | chosen["speed"]
    for stage in chosen.values():
        assert not any(n.startswith(("vae.", "audio_encoder.")) for n in stage)


def test_begin(encoded: Path) -> None:
    """Before any training, time and speed change nothing, and without a portrait the reference attention is silent."""
    fresh = build_model(preset("demo128"), seed=3)
    diffusion.begin(fresh)
    torch.nn.init.normal_(fresh.backbone.conv_out.weight, std=0.1)
    footage = Footage(encoded, fresh.config, "cpu")
    example = footage.video(np.random.default_rng(0))
    always = SimpleNamespace(random=lambda: 0.5)
    with torch.no_grad():
        features = diffusion.features_of(fresh, example, always, "video")  # type: ignore[arg-type]
        shifts = fresh.backbone.time_shifts(torch.tensor([500.0]))
        with_time = fresh.backbone(example.latents, shifts, features, guided=False)
        fresh.backbone.still = True
        without = fresh.backbone(example.latents, shifts, features, guided=False)
        fresh.backbone.still = False
        unseen = ("reference_", "audio_key", "audio_value", "speed_")
        nothing = {k: torch.zeros_like(v) if k.startswith(unseen) else v
                   for k, v in features.items()}  # fmt: skip
        alone = fresh.backbone(example.latents, shifts, nothing, guided=False)
        both = fresh.backbone(
            example.latents, shifts, {**features, **fresh.null_features(), "guidance_scale": torch.ones(1)}, guided=True
        )
    assert torch.allclose(with_time, without, atol=1e-5)
    assert torch.allclose(both[:12], alone, atol=1e-4), "what training leaves out is what guidance leaves out"
    assert torch.allclose(both[12:], with_time, atol=1e-4)


@pytest.mark.parametrize(("stage", "own"), [("image", 0), ("video", 0), ("speed", 0), ("joint", 0), ("joint", 1)])
def test_a_few_steps_of_each_stage(stage: str, own: float, encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are finite, gradients reach what the stage trains."""
    monkeypatch.setattr(diffusion, "OWN", own)
    model = build_model(preset("demo128"), seed=4)
    diffusion.begin(model)
    torch.nn.init.normal_(model.backbone.conv_out.weight, std=0.02)
    chosen = diffusion.trainable(model, stage)
    model.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    loss = diffusion.diffusion_loss(model, Footage(encoded, model.config, "cpu"), stage, "cpu")
    losses = loss(np.random.default_rng(2))
    assert all(torch.isfinite(value) for value in losses.values())
    losses["total"].backward()
    reached = sum(parameter.grad is not None for parameter in chosen)
    assert reached > 0.8 * len(chosen)
