"""What is measured: a loaded model, a prepared portrait and a sound, the same ones in every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from emo_rt import AnimateOptions, Animator, Avatar, Bundle, Video
from emo_rt.benchmarks.recording import RecordingBackend
from emo_rt.cli.demo import DEMO_FACE, DEMO_PORTRAIT, DEMO_VOICE
from emo_rt.cli.machine import LongRunning
from emo_rt.device.registry import open_backend
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio
from emo_rt.model.contract import Array
from emo_rt.model.options import MOST_GUIDANCE, MOST_STEPS, SOLVERS, ResolvedOptions
from emo_rt.model.resolve import step_graphs
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.schema.kinds import Choice, Range
from emo_rt.schema.option import check_options

STEPS, SOLVER = 20, "ddim"


@dataclass(frozen=True)
class Setting(LongRunning):
    """What to measure, and how thoroughly."""

    mode: str | None = None
    """Preset of the model: solver, steps and guidance where they are not given. ``None`` = none."""
    solver: Annotated[str | None, Choice(SOLVERS)] = None
    """Solver. ``None`` = ddim, or the mode's."""
    steps: Annotated[int | None, Range(1, MOST_STEPS)] = None
    """Solver steps per clip. ``None`` = 20, or the mode's."""
    guidance: Annotated[float | None, Range(0, MOST_GUIDANCE)] = None
    """Guidance scale. 1 = none. ``None`` = the mode's, or the model's own."""
    rounds: Annotated[int, Range(1, 1000)] = 5
    """Repetitions of what is short. Medians are reported."""
    clips: Annotated[int, Range(2, 10_000)] = 6
    """Clips of the long runs."""
    fps: Annotated[float | None, Range(0, 240, "more than 0, up to 240", is_open=True)] = None
    """Frames per second at which a stream is played and a frame is late. ``None`` = the model's."""

    def __post_init__(self) -> None:
        check_options(self)

    def options(self, paste_back: bool | None = False) -> AnimateOptions:
        """Options of a run; without paste-back unless it is asked for."""
        steps, solver = self.steps, self.solver
        if self.mode is None:
            steps, solver = steps or STEPS, solver or SOLVER
        return AnimateOptions(
            preset=self.mode, steps=steps, solver=solver, guidance=self.guidance, paste_back=paste_back
        )

    def to_dict(self, run: AnimateOptions | ResolvedOptions | None = None) -> dict[str, Any]:
        """Plain values for the result, without the folder of the bundle. ``run``: what a mode makes of them."""
        values, chosen = asdict(self), run or self.options()
        del values["bundle"]
        return {**values, "solver": chosen.solver, "steps": chosen.steps}


@dataclass(frozen=True)
class Model:
    """A model and what runs it, without its folder."""

    name: str
    size: int
    """Width and height of the picture, in pixels."""
    fps: int
    frames: int
    """Of a clip."""
    dtype: str
    """In which it computes."""
    bytes: int
    """Of the bundle."""
    untrained: bool
    step_graph_sha256: str
    """Of the file without its weights: two results with the same have the same network."""
    backend: str
    """``onnxruntime on cpu``."""


class Subject:
    """Owns the animator. A context manager."""

    def __init__(self, setting: Setting) -> None:
        """Load. Raises what :meth:`emo_rt.Animator.load` raises.

        ``recorder`` is ``None`` on a GPU: launches only enqueue work there, so their times say nothing.
        """
        self.setting = setting
        self.bundle = Bundle.open(setting.bundle)
        backend = open_backend(setting.backend, setting.device, setting.threads, self.bundle, exact=setting.exact)
        self.recorder = RecordingBackend(backend) if backend.device == "cpu" else None
        self.model = LoadedModel(self.bundle, self.recorder or backend)
        self.animator = Animator(self.model)
        self.resolved = self.animator.resolve(setting.options())
        self.config = self.bundle.config
        self.face = self.model.family.anonymous
        self.clip_samples = self.config.frames * AUDIO_SAMPLE_RATE // self.config.fps
        self.clip_s = self.config.frames / self.config.fps

    @cached_property
    def avatar(self) -> Avatar:
        """The demo's portrait."""
        return self.prepare()

    def prepare(self) -> Avatar:
        """Prepare the demo's portrait anew."""
        return self.animator.prepare(DEMO_PORTRAIT, face_box=DEMO_FACE, face=self.face)

    @cached_property
    def voice(self) -> Array:
        """The demo's voice, (n,) float32 at 16 kHz."""
        return np.concatenate(list(mono_16k(open_audio(DEMO_VOICE))))

    def sound(self, clips: int) -> Array:
        """So much of the voice, over and over, that it fills ``clips`` clips: (n,) float32 at 16 kHz."""
        return np.resize(self.voice, clips * self.clip_samples)

    def chunks(self, clips: int, seconds: float = 0.04) -> Iterator[Array]:
        """The same in pieces, as a microphone gives them."""
        sound, size = self.sound(clips), round(seconds * AUDIO_SAMPLE_RATE)
        return iter([sound[start : start + size] for start in range(0, len(sound), size)])

    def animate(self, clips: int = 1, paste_back: bool | None = False, avatar: Avatar | None = None) -> Video:
        """A video of so many clips; nothing is computed yet."""
        options = self.setting.options(paste_back)
        sound = self.sound(clips)
        return self.animator.animate(avatar or self.avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, options=options)

    def run(self, clips: int = 1, paste_back: bool | None = False) -> Video:
        """Make a video to its end and drop its frames."""
        video = self.animate(clips, paste_back)
        for _ in video.chunks():
            pass
        return video

    def describe(self) -> Model:
        """What is measured."""
        config = self.config
        return Model(
            name=config.name,
            size=config.size,
            fps=config.fps,
            frames=config.frames,
            dtype=self.bundle.dtype,
            bytes=self.bundle.size_bytes,
            untrained=self.bundle.is_untrained,
            step_graph_sha256=self.bundle.files[f"graphs/{self._step_graph()}.onnx"]["sha256"],
            backend=f"{self.animator.backend} on {self.animator.device}",
        )

    def _step_graph(self) -> str:
        return step_graphs(self.resolved, self.bundle)[0]

    def close(self) -> None:
        """Free the model. Safe twice."""
        self.animator.close()

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
