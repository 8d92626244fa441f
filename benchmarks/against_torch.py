"""How much faster is the runtime than plain torch? The same clip, model and weights, in the same run, in alternation.

Ways
    ours      prepare the portrait, animate one clip, frames in memory: the public interface.
    plain     :mod:`emo_rt.export.networks.plain` in eager torch: all of the network at every step, ReferenceNet too.
    original  :mod:`emo_rt.benchmarks.original` in eager torch: what public Hallo code does; the fairer comparison.

Both torch ways start from the cut and scaled portrait and do the same around the solver's loop: VAE encoder, audio
encoder, decoder to bytes. The weights are read back from the bundle (:mod:`emo_rt.export.read_back`). The frames of
all ways must agree to :data:`AGREEMENT_DB`, or there is no report. Torch uses as many threads as our graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from emo_rt.benchmarks.agreement import DisagreementError, psnr, torch_threads
from emo_rt.benchmarks.harness import interleaved
from emo_rt.benchmarks.original import OriginalClip
from emo_rt.benchmarks.subject import Subject
from emo_rt.benchmarks.work import count_graphs, plain_inputs
from emo_rt.checks import check
from emo_rt.export.graph_modules import clamp_unit, to_rgb
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.plain import PlainInputs, plain_prediction
from emo_rt.export.read_back import read_back
from emo_rt.media.picture import load_picture
from emo_rt.model.contract import Array
from emo_rt.model.families.base import ClipState
from emo_rt.model.presets import BASE
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.clips import noise_for_clip, split_into_clips
from emo_rt.runtime.loaded_model import to_unit

AGREEMENT_DB = 40.0
"""Smallest peak signal-to-noise ratio between our frames and torch's, in dB: one step of 255 everywhere is 48 dB."""

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents (F, 4, S, S), timestep (1,) and the frames of the video that they are (F,) → predictions
(halves, F, 4, S, S)."""


@dataclass(frozen=True)
class AgainstTorch:
    """Our times beside those of torch."""

    seconds: dict[str, float]
    """Of each way, the median over the rounds."""
    speedup: dict[str, float]
    """Way of torch → its time in units of ours, the median over the rounds."""
    range: dict[str, tuple[float, float]]
    """The smallest and the largest."""
    agreement_db: dict[str, float]
    """Peak signal-to-noise ratio between its frames and ours."""
    rounds: int
    threads: int
    torch: str
    """Its version."""
    gmac: dict[str, float]
    """10⁹ multiply-adds of one run of each large graph, counted."""


def against_torch(subject: Subject, threads: int, rounds: int) -> AgainstTorch:
    """Seconds of each way and our speed-ups, medians over rounds. Raises :class:`DisagreementError`."""
    check_variant(subject)
    torch_clip = TorchClip(subject, read_back(subject.bundle))
    ways: dict[str, Callable[[], Array]] = {
        "ours": lambda: subject.animate(avatar=subject.prepare()).numpy(),
        "plain": lambda: torch_clip.frames(torch_clip.plain),
    }
    if torch_clip.has_original:
        ways["original"] = lambda: torch_clip.frames(torch_clip.original)
    with torch_threads(threads), torch.no_grad():
        frames = {name: way() for name, way in ways.items()}  # the warm-up of each
        agreement = {name: psnr(frames["ours"], frames[name]) for name in ways if name != "ours"}
        check_agreement(agreement)
        times = interleaved(dict(ways), rounds)
    return AgainstTorch(
        seconds={name: median(row[name] for row in times) for name in ways},
        speedup={name: median(row[name] / row["ours"] for row in times) for name in agreement},
        range={name: _range([row[name] / row["ours"] for row in times]) for name in agreement},
        agreement_db=agreement,
        rounds=rounds,
        threads=threads,
        torch=str(torch.__version__),
        gmac=_gmac(subject),
    )


def check_variant(subject: Subject) -> None:
    """Raise :class:`ConfigError` where a run steps with other weights than those that are read back."""
    fits = subject.resolved.variant == BASE
    check(fits, "mode", subject.setting.mode, f"one that steps with the weights {BASE!r}, to compare with torch")


class TorchClip:
    """The clip that :class:`Subject` animates, in eager torch."""

    def __init__(self, subject: Subject, model: EmoModel) -> None:
        self.subject, self.model, self.config = subject, model, model.config
        self.sound, self.portrait = subject.sound(1), subject.avatar.portrait
        self.schedule = solver_table(self.config.schedule, subject.resolved.solver, subject.resolved.steps)
        table, self.guidance = subject.model.step_table(subject.setting.options())
        self.guided = any(subject.bundle.graphs[name].guided for name in table.graphs)

    def plain(self, inputs: PlainInputs) -> Predict:
        """Everything at every step."""

        def predict(latents: Tensor, timestep: Tensor, frames: Tensor) -> Tensor:
            window = replace(inputs, audio_windows=inputs.audio_windows[frames])
            return plain_prediction(self.model, latents, timestep, window, self.guided)

        return predict

    @property
    def has_original(self) -> bool:
        """Whether there is the public pipeline's order for this run. Hallo's always computes both halves; EchoMimic's
        has no unconditional half without guidance, and :class:`OriginalClip` always has one."""
        return self.guided or not self.subject.model.family.is_whole_video

    def original(self, inputs: PlainInputs) -> Predict:
        """In the order of the public pipeline: ReferenceNet once, everything else at every step of every window."""
        clip = OriginalClip(self.model, inputs)

        def predict(latents: Tensor, timestep: Tensor, frames: Tensor) -> Tensor:
            clip.hear(inputs.audio_windows[frames])
            return clip.predict(latents, timestep)

        return predict

    def frames(self, order: Callable[[PlainInputs], Predict]) -> Array:
        """The clip's frames, (F, size, size, 3) uint8."""
        inputs = self._inputs()
        latents = self._solve(order(inputs), len(inputs.audio_windows))[: self.config.frames]
        batch = self.config.decode_frames
        parts = [vae_network.decode(self.model.vae, part) for part in latents.split(batch)]
        return to_rgb(clamp_unit(torch.cat(parts))).numpy()

    def _inputs(self) -> PlainInputs:
        config, portrait = self.config, self.portrait
        latent = vae_network.encode(self.model.vae, torch.from_numpy(to_unit(portrait.pixels)))
        family = self.subject.model.family
        first = latent if family.first_motion == "portrait" else torch.zeros_like(latent)
        clip = next(iter(split_into_clips(config, self._encode_audio, [self.sound])))
        known = family.portrait_inputs(portrait, self.subject.face, load_picture(portrait.picture))
        values = {
            "portrait_latent": latent,
            "motion_latents": first.repeat(config.motion_frames, 1, 1, 1),
            "audio_windows": torch.from_numpy(clip.windows),
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in known.items()},
        }
        for name, value in family.constants(self.subject.setting.options()).items():
            values[name] = torch.full((config.frames,), value) if np.isscalar(value) else torch.tensor(value)
        return plain_inputs(values)

    def _encode_audio(self, waveform: Array) -> Array:
        sounds = self.subject.model.family.heard(waveform)
        states = [self.model.audio_encoder(torch.from_numpy(sound)).numpy()[:rows] for sound, rows in sounds]
        return np.concatenate(states)

    def _solve(self, predict: Predict, frames: int) -> Tensor:
        """The solver's table around a function that predicts, as :mod:`emo_rt.model.solvers` describes it. ``frames``:
        of a clip, or of the whole video, whose windows are averaged."""
        family = self.subject.model.family
        plan = family.plan(ClipState(0, frames if family.is_whole_video else 0))
        shape = (frames, self.config.vae.latent_channels, *[self.config.latent_size] * 2)
        latents = torch.from_numpy(noise_for_clip(self.subject.setting.options().seed, 0, shape))
        if family.noise_limit is not None:
            latents = latents.clamp(-family.noise_limit, family.noise_limit)
        earlier = [torch.zeros_like(latents)] * 2
        rows = zip(self.schedule.timesteps, self.schedule.coefficients.tolist(), strict=True)
        for step, (timestep, row) in enumerate(rows):
            total, covered = torch.zeros_like(latents), torch.zeros(frames, 1, 1, 1)
            for call in plan.step:
                if call.graph == "step":
                    window = (torch.tensor(call.frames) + step * plan.shift) % frames
                    halves = predict(latents[window], torch.tensor([float(timestep)]), window)
                    guided = halves[0] + self.guidance * (halves[1] - halves[0]) if len(halves) == 2 else halves[0]
                    total[window] += guided
                    covered[window] += 1
            prediction = total / covered
            p, q, a, b, c, d = row
            x0 = p * latents + q * prediction
            latents = a * latents + b * x0 + c * earlier[0] + d * earlier[1]
            earlier = [x0, earlier[0]]
        return latents


def check_agreement(agreement: dict[str, float]) -> None:
    """Raise :class:`DisagreementError` for less than :data:`AGREEMENT_DB`."""
    for name, ratio in agreement.items():
        if not ratio >= AGREEMENT_DB:
            raise DisagreementError(
                f"torch ({name}) and the runtime give different pictures ({ratio:.1f} dB, expected {AGREEMENT_DB:g} or "
                "more), so their times are not compared; either weights could not be read back from this bundle, or it "
                "was made by another version: export it again"
            )


def _gmac(subject: Subject) -> dict[str, float]:
    """10⁹ multiply-adds of one run of each large graph, counted."""
    graphs, vae = count_graphs(subject.config)
    decoded = vae["decode"] * subject.config.decode_frames
    counted = {role: sum(found.values()) for role, found in graphs.items()}
    return {name: count / 1e9 for name, count in {**counted, "vae_decoder": decoded}.items()}


def _range(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)
