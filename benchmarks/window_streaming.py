"""How far is EchoMimic clip after clip (``causal``) from the published scheme, which makes a whole video at once?

Question
    What do windows of finished, own and coming frames change, against windows whose predictions are averaged over the
    whole video? And what does hearing no more than what has come change?

Method
    The same portrait, sound and noise of each frame, once with either scheme. ``tokens``: Euclidean distance of the
    audio tokens of all frames, as a share of the norm of the published scheme's. ``psnr_db``: of the pictures, one
    scheme against the other; ``other_seed_db``: the published scheme against itself with other noise, which is as
    good a video. ``seams``: mean change of a pixel from frame to frame where two clips meet, as a share of the mean
    change elsewhere; the published scheme has none, so the same frames of it are looked at.

Expected output
    One line of JSON. With random weights the numbers say little: nothing was learned that noise does not decide.

Command
    python -m emo_rt.benchmarks.window_streaming --bundle FOLDER [--seconds 4] [--preset NAME] [SOUND]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from emo_rt import Animator, Avatar
from emo_rt.cli import terminal
from emo_rt.cli.demo import DEMO_PORTRAIT, DEMO_VOICE
from emo_rt.errors import ConfigError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.clips import clip_sounds, noise_for_clip
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.loaded_model import LoadedModel


def compare(animator: Animator, avatar: Avatar, sound: Array, options: AnimateOptions) -> dict[str, Any]:
    """Distances between the two schemes, for one sound (samples,) at 16 kHz."""
    model = avatar.model
    if model.family.stream_config() is None:
        raise ConfigError(f"the model {animator.config.name!r} makes clip after clip; expected one that does not")
    causal = model.for_run(options.replace(causal=True))
    clip, whole = causal.config.frames, model.family.video_frames(max(len(sound), model.family.least_samples()))

    def frames(seed: int, is_causal: bool) -> Array:
        noise = _noise(model.config, seed, clip if is_causal else whole)
        chosen = options.replace(causal=is_causal or None)
        made = animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, options=chosen, noise=noise)
        pictures: Array = made.numpy()
        return pictures

    published, ours, other = frames(options.seed, False), frames(options.seed, True), frames(options.seed + 1, False)
    return {
        "seconds": len(sound) / AUDIO_SAMPLE_RATE,
        "tokens": _tokens_apart(model, causal, sound),
        "psnr_db": _psnr(published, ours),
        "other_seed_db": _psnr(published, other),
        "seams": {"causal": _seams(ours, clip), "published": _seams(published, clip)},
    }


def _noise(config: ModelConfig, seed: int, clip: int) -> Callable[[int], Array]:
    """Noise of each frame of a video, the same in whichever clip of so many frames it is."""
    shape = (config.vae.latent_channels, config.latent_size, config.latent_size)

    def noise(index: int) -> Array:
        return np.stack([noise_for_clip(seed, frame, shape) for frame in range(index * clip, (index + 1) * clip)])

    return noise


def _tokens_apart(model: LoadedModel, causal: LoadedModel, sound: Array) -> float:
    found = []
    for one in (model, causal):
        sounds, back = clip_sounds(one.config), one.config.motion_frames
        sounds.push(sound)
        sounds.end()
        with closing(Hearing(one.backend, one.serving("audio_encoder"), one.config)) as hear:
            clips = [sounds.take() for _ in range(sounds.waiting)]
            heard = [hear(clip.waveform)[clip.rows] for clip in (clips[:1] if one is model else clips)]
        found.append(heard[0] if one is model else np.concatenate([h[back : back + one.config.frames] for h in heard]))
    frames = min(map(len, found))
    truth, ours = found[0][:frames], found[1][:frames]
    return float(np.linalg.norm(ours - truth) / np.linalg.norm(truth))


def _psnr(one: Array, other: Array) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _seams(frames: Array, clip: int) -> float:
    change = np.abs(np.diff(frames.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
    is_seam = np.arange(1, len(frames)) % clip == 0
    return float(change[is_seam].mean() / change[~is_seam].mean())


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.window_streaming")
    parser.add_argument("sound", nargs="?", default=str(DEMO_VOICE))
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the sound (default: %(default)s)")
    parser.add_argument("--preset")
    parser.add_argument("--steps", type=int)
    given = parser.parse_args(arguments)
    sound = np.concatenate(list(mono_16k(open_audio(given.sound))))[: int(given.seconds * AUDIO_SAMPLE_RATE)]
    options = AnimateOptions(preset=given.preset, steps=given.steps, paste_back=False)
    with Animator.load(given.bundle) as animator, animator.prepare(DEMO_PORTRAIT, face_box="full") as avatar:
        found = compare(animator, avatar, sound, options)
    terminal.say(json.dumps({"benchmark": "window_streaming", **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
