"""What does a model that was trained to hear whole files (Hallo) hear differently in a live session?

Question
    How far are the hidden states that a live session gets, in windows and scaled by running statistics, from those of
    the whole sound, scaled by its own mean and variance?

Method
    The bundle's audio encoder runs over the whole sound, and over the windows of a live session
    (:mod:`emo_rt.runtime.live.causal`). Distances are Euclidean norms over all layers, as a share of the norm of the
    whole-file states: of all frames, and of the frames behind the first two seconds, when the statistics have settled.
    ``windows`` leaves the scale as in the whole file; ``live`` is both together.

Expected output
    One line of JSON.

Command
    python -m emo_rt.benchmarks.causal_hearing [--bundle FOLDER] [SOUND]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emo_rt import Bundle
from emo_rt.cli import terminal
from emo_rt.cli.demo import DEMO_VOICE
from emo_rt.device.registry import open_backend
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio
from emo_rt.model.config import ModelConfig
from emo_rt.runtime.clips import WindowedSounds, samples_of
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.live.causal import RunningScale, with_windows
from emo_rt.runtime.loaded_model import LoadedModel

Floats = NDArray[np.float32]
SETTLED_S = 2
"""Seconds after which the running statistics are compared by themselves, too."""


def states_in_windows(waveform: Floats, config: ModelConfig, hear: Callable[[Floats], Floats]) -> Floats:
    """(frames, layers, hidden) of all clips that are certain, each from its own window."""
    sounds = WindowedSounds(config)
    sounds.push(waveform)
    found = []
    while sounds.waiting:
        clip = sounds.take()
        found.append(hear(clip.waveform)[clip.rows[:, config.audio.context_frames]])
    return np.concatenate(found)


def compare(waveform: Floats, config: ModelConfig, hear: Callable[[Floats], Floats]) -> dict[str, float]:
    """Relative distances from the whole file's states."""
    fps = config.fps
    frames = len(waveform) * fps // AUDIO_SAMPLE_RATE
    waveform = waveform[: samples_of(frames, config)]
    scaled = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    scale = RunningScale()
    bounds = [samples_of(frame, config) for frame in range(frames + 1)]
    running = np.concatenate([scale(waveform[start:end], is_sound=True) for start, end in pairwise(bounds)])
    whole, windowed = hear(scaled.astype(np.float32)), with_windows(config)
    result = {"seconds": len(waveform) / AUDIO_SAMPLE_RATE}
    for name, sound in (("windows", scaled.astype(np.float32)), ("live", running)):
        found = states_in_windows(sound, windowed, hear)
        for part, first in (("", 0), (f"_after_{SETTLED_S}_s", SETTLED_S * fps)):
            truth = whole[first : len(found)]
            result[name + part] = float(np.linalg.norm(found[first:] - truth) / np.linalg.norm(truth))
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.causal_hearing")
    parser.add_argument("sound", nargs="?", default=str(DEMO_VOICE))
    parser.add_argument("--bundle", default="demo")
    given = parser.parse_args(arguments)
    waveform = np.concatenate(list(mono_16k(open_audio(given.sound))))
    bundle = Bundle.open(given.bundle)
    with LoadedModel(bundle, open_backend("auto", "auto", None, bundle)) as model:
        hearing = Hearing(model.backend, model.serving("audio_encoder"), model.config)
        try:
            terminal.say(json.dumps({"benchmark": "causal_hearing", **compare(waveform, model.config, hearing)}))
        finally:
            hearing.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
