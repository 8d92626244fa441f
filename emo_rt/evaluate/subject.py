"""What the regression gate compares: a video file, or a setting of a model that makes one.

``talking.mp4``, ``BUNDLE``, ``BUNDLE:PRESET``, ``BUNDLE@BACKEND``, ``BUNDLE:PRESET@BACKEND``: ``demo:fast@openvino``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo_rt.animator import Animator
from emo_rt.errors import ConfigError
from emo_rt.evaluate.footage import SUFFIXES, Footage, of_frames, open_video
from emo_rt.media.box import FaceBox
from emo_rt.media.picture import PictureSource
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.stages import Progress

FORMS = "a video file, or BUNDLE[:PRESET][@BACKEND], like demo:fast@openvino"


@dataclass(frozen=True)
class Speech:
    """What both settings of a model are given."""

    portrait: PictureSource
    """Picture of the person."""
    sound: np.ndarray[tuple[int], np.dtype[np.float32]]
    """(n,) at 16 kHz."""
    face_box: FaceBox | None = None
    """Where the face is; ``None`` = looked for."""
    seed: int = 0
    """Key of the noise: the same for both."""
    device: str = "auto"
    """As for :meth:`emo_rt.Animator.load`."""
    threads: int | None = None
    """As for :meth:`emo_rt.Animator.load`."""


@dataclass(frozen=True)
class Subject:
    """One side of a comparison."""

    text: str
    """As it was written."""
    video: Path | None = None
    """A file, or else …"""
    bundle: str = ""
    """… a model: a folder, or ``demo``,"""
    preset: str | None = None
    """one of its presets, ``None`` = its default,"""
    backend: str = "auto"
    """and what runs it."""

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read what was written on a command line. Raises :class:`ConfigError`."""
        path = Path(text)
        if path.is_file() or path.suffix.lower() in SUFFIXES:
            return cls(text, video=path)
        if path.is_dir() or text == "demo":
            return cls(text, bundle=text)
        rest, _, backend = text.rpartition("@") if "@" in text else (text, "", "auto")
        bundle, _, preset = rest.rpartition(":") if _has_preset(rest) else (rest, "", None)
        if not bundle or not (bundle == "demo" or Path(bundle).is_dir()):
            raise ConfigError(f"there is nothing to compare at {text!r}; expected {FORMS}")
        return cls(text, bundle=bundle, preset=preset, backend=backend)

    @property
    def is_model(self) -> bool:
        """Whether it makes its video now."""
        return self.video is None

    def footage(self, speech: Speech | None) -> tuple[Footage, float, int | None]:
        """The video, the seconds that making it took (0 for a file), and the frames in a clip where they are known.

        Raises :class:`ConfigError` where a model is not told whom to animate, and what making a video raises.
        """
        if self.video is not None:
            return open_video(self.video), 0.0, None
        if speech is None:
            raise ConfigError(f"{self.text} is a model: say what it shall animate with --portrait and --voice")
        with Animator.load(self.bundle, device=speech.device, backend=self.backend, threads=speech.threads) as animator:
            options = AnimateOptions(preset=self.preset, seed=speech.seed)
            frames, seconds = made(animator, speech, options)
            return of_frames(self.text, frames, animator.config.fps, speech.sound), seconds, animator.config.frames


class OutOfTimeError(ConfigError):
    """A video was not done in time."""


def made(
    animator: Animator, speech: Speech, options: AnimateOptions, until: float = math.inf
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], float]:
    """The animated squares (T, size, size, 3), and the seconds that they took, the portrait's preparation left out.

    ``until``: by :func:`time.perf_counter`, when to give up. Raises :class:`OutOfTimeError` then.
    """

    def watch(_: Progress) -> None:
        if time.perf_counter() > until:
            raise OutOfTimeError("the budget is over before a first setting is done; expected a larger budget")

    options = options.replace(seed=speech.seed, paste_back=False)
    with animator.prepare(speech.portrait, face_box=speech.face_box) as avatar:
        animator.warmup(options)
        start = time.perf_counter()
        frames = animator.animate(avatar, speech.sound, sample_rate=16_000, options=options, progress=watch).numpy()
        return frames, time.perf_counter() - start


def _has_preset(text: str) -> bool:
    """Whether a colon ends the folder's name: one of Windows' drives is followed by a slash, a preset never has one."""
    folder, colon, preset = text.rpartition(":")
    return bool(colon and folder) and not set(preset) & set("/\\") and not Path(text).exists()
