"""The stages, each from what is on disk to what is on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.presets import preset
from training import autoencoder, hearing
from training.loop import Loop, save_atomically

CORPUS, VOICES, ENCODED = "corpus", "voices", "encoded"
"""Folders of the corpus, of clips without pictures, and of the corpus as latents and hidden states."""
DIFFUSION = ("image", "video", "speed", "joint")
"""The stages 1 to 4, in order."""
BEFORE_DIFFUSION = {"vae": ("vae.",), "hearing": ("audio_encoder.",)}
IN_DIFFUSION = ("backbone.", "reference_net.", "face_locator.", "audio_projector.", "speed_encoder.")
"""How the names of the tensors begin that a stage before the diffusion writes, and each stage of it."""


def load_model(folder: Path, *parts: str, name: str = "demo128") -> EmoModel:
    """The model of preset ``name`` with the weights of the finished stages named by ``parts``."""
    model = build_model(preset(name))
    for part in parts:
        state = torch.load(folder / f"{part}.weights.pt", map_location="cpu", weights_only=True)
        _, unexpected = model.load_state_dict(state, strict=False)
        if unexpected:
            raise RuntimeError(f"{part}.weights.pt has tensors that the model lacks: {unexpected[:3]}")
    return model


def save_parts(model: EmoModel, folder: Path, *parts: str) -> None:
    """Write the weights of these stages (``vae``, ``hearing``, one of the diffusion's or its weights so far)."""
    for part in parts:
        prefixes = BEFORE_DIFFUSION.get(part, IN_DIFFUSION)
        state = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
        save_atomically(state, folder / f"{part}.weights.pt")


def train_vae(folder: Path, device: str, budget_s: float) -> None:
    """Stage 0a: crops first, then whole pictures; at the end the latents are standardised."""
    model = build_model(preset("demo128")).to(device)
    pictures = autoencoder.Pictures(folder / CORPUS)
    loop = Loop(autoencoder.STAGE, folder, model.vae, list(model.vae.parameters()))

    def loss(rng):  # type: ignore[no-untyped-def]
        whole = loop.step >= autoencoder.WHOLE_FROM * loop.stage.steps
        return autoencoder.vae_loss(model.vae, pictures, whole, device)(rng)

    if loop.run(loss, budget_s):
        loop.use_average()
        autoencoder.standardise(model.vae, pictures, device)
        fidelity = autoencoder.fidelity(model.vae, pictures, device)
        save_parts(model, folder, "vae")
        loop.stamp("vae", psnr_db=fidelity)


def train_hearing(folder: Path, device: str, budget_s: float) -> None:
    """Stage 0b."""
    model = build_model(preset("demo128"))
    config = model.config
    hearer = hearing.Hearing(model.audio_encoder, config.audio.encoder.hidden_size).to(device)
    voices = hearing.Voices.load(folder / CORPUS, folder / VOICES)
    loop = Loop(hearing.STAGE, folder, hearer, list(hearer.parameters()))
    if loop.run(hearing.hearing_loss(hearer, voices, config.audio, config.fps, device), budget_s):
        loop.use_average()
        scores = hearing.score(hearer, hearing.Voices.unseen(), config.audio, config.fps, device)
        save_parts(model, folder, "hearing")
        loop.stamp("hearing", **scores)


def train_diffusion(stage: str, folder: Path, device: str, budget_s: float) -> None:
    """Stages 1 to 4; each starts from the averaged weights of the one before."""
    from training import diffusion
    from training.encoded import Footage

    before = DIFFUSION[: DIFFUSION.index(stage)][-1:]  # none for the first
    model = load_model(folder, "vae", "hearing", *before)
    if not before:
        diffusion.begin(model)
    model.to(device)
    footage = Footage(folder / ENCODED, model.config, device)
    loop = Loop(diffusion.STAGES[stage], folder, model, diffusion.trainable(model, stage))
    done = loop.run(diffusion.diffusion_loss(model, footage, stage, device), budget_s)
    loop.use_average()
    name = stage if done else f"{stage}-so-far"
    save_parts(model, folder, name)
    loop.stamp(name, clips=len(footage.clips))
