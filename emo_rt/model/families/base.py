"""What differs between families of checkpoints: one class for each, and nothing of it anywhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol

from emo_rt.errors import ConfigError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, GraphSpec
from emo_rt.model.families.graphs import GraphBuilder
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions

SPECIAL_OPTIONS = frozenset({"speed", "motion_scale", "causal"})
"""Options that only some families heed."""
COMMON_OPTIONS = frozenset(field.name for field in fields(AnimateOptions)) - SPECIAL_OPTIONS
"""Options that every family heeds."""


class Call(NamedTuple):
    """One run of a graph."""

    graph: str
    """Role of the graph."""
    frames: range
    """Frames of the clip that it computes, or reads. Where :attr:`Plan.frames` says of how many frames the video is,
    frames of the video, counted on from its beginning behind its end."""


@dataclass(frozen=True)
class ClipState:
    """Where a talker stands before a clip. Tensors stay on the device, in the runtime's hands."""

    index: int
    """Number of the clip, from 0."""
    frames: int = 0
    """Frames of the whole video, where the family makes it at once."""


@dataclass(frozen=True)
class Plan:
    """How one clip is made."""

    motion: Literal["none", "zeros", "portrait", "carried"]
    """Motion frames: the family knows none, none yet, the portrait repeated, or what :meth:`Family.carry` left."""
    before: tuple[Call, ...]
    """Graphs that run once, in front of the solver."""
    step: tuple[Call, ...]
    """Graphs of one solver step. One call: prediction, guidance and solver in one launch. No call: the clip is part of
    a video that was made with its first clip."""
    frames: int = 0
    """Frames of the whole video, where it is made at once; 0 = clip after clip."""
    first: int = 0
    """Frame of the whole video that this clip begins with."""
    shift: int = 0
    """Frames by which the calls of the ``step`` graph move from step to step."""
    around: tuple[int, int] = (0, 0)
    """Frames before and behind the clip's own that its window covers."""


@dataclass(frozen=True)
class HearingWindows:
    """What one run of the audio encoder hears, in video frames."""

    left: int
    """Context before the frames that are wanted."""
    frames: int
    """Frames that are wanted of one run: a clip's, and the m neighbours on both sides that its frames attend to. 0 =
    the whole sound in one run, which nothing can stream exactly."""
    right: int
    """Context behind them."""
    fps: int
    """Video frames per second."""
    is_normalized: bool
    """Whether the whole waveform is scaled to zero mean and unit variance first."""

    @property
    def is_whole_file(self) -> bool:
        """Whether the encoder hears the whole sound at once."""
        return self.frames == 0

    @property
    def length(self) -> int:
        """Frames of sound that one run hears."""
        return self.left + self.frames + self.right

    @property
    def samples(self) -> int:
        """The same in samples at 16 kHz."""
        return self.length * AUDIO_SAMPLE_RATE // self.fps


class Ear(Protocol):
    """How the clips of a stream hear, where a family has a way of its own. Clips are taken in order."""

    @property
    def nbytes(self) -> int:
        """Memory of the sound that is kept."""
        ...

    def push(self, block: Array) -> None:
        """Take (n,) more samples at 16 kHz."""
        ...

    def end(self) -> None:
        """No more will come."""
        ...

    def is_certain(self, index: int) -> bool:
        """Whether all that a clip hears is there."""
        ...

    def sound(self, index: int) -> tuple[Array, Array]:
        """What :meth:`Family.heard` takes for a clip, and (frames, rows): which of the encoder's rows each frame of its
        window attends to."""
        ...


class Family(ABC):
    """One family of checkpoints, for one configuration."""

    name: str
    """As configurations name it."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    # What a caller may ask for

    @property
    @abstractmethod
    def heeds(self) -> frozenset[str]:
        """Names of the options of :class:`AnimateOptions` and :meth:`emo_rt.Animator.prepare` that it heeds."""

    @abstractmethod
    def constants(self, options: AnimateOptions) -> Mapping[str, Any]:
        """Inputs of graphs that stay the same during a run: tensor → its values, as far as the tensor is there."""

    def check_heeds(self, given: Mapping[str, Any]) -> None:
        """Raise :class:`ConfigError` for an option that is set and would have no effect. ``given``: name → value."""
        for name, value in given.items():
            if name not in self.heeds:
                raise ConfigError(
                    f"{name} is {value!r}; the model {self.config.name!r} (family {self.name}) does not heed it, so "
                    f"leave it out. It heeds {', '.join(sorted(self.heeds))}"
                )

    # What is computed

    def graphs(self, dtype: str = "float32", guidance: Sequence[bool] = (True,)) -> list[GraphSpec]:
        """All graphs of a model in the order in which the runtime first needs them.

        ``guidance``: which step graphs to have: True gives ``step``, False gives ``step_unguided``.
        """
        return self._builder(dtype, guidance).all()

    def _builder(self, dtype: str, guidance: Sequence[bool]) -> GraphBuilder:
        return GraphBuilder(self.config, dtype, guidance)

    @property
    def longest_s(self) -> float | None:
        """Longest sound where the caller sets no limit, in seconds; ``None`` = no matter how long."""
        return None

    @property
    def is_whole_video(self) -> bool:
        """Whether a video is made at once, of the whole sound, and not clip after clip."""
        return False

    @property
    def worker(self) -> str:
        """Kind of worker that makes its clips: ``clip``, ``video`` or ``window``; see
        :mod:`emo_rt.runtime.worker_pool`."""
        return "clip"

    def stream_config(self) -> ModelConfig | None:
        """The configuration of clip after clip, where the family makes whole videos; ``None`` = it has no other."""
        return None

    def ear(self) -> Ear | None:
        """How the clips of a stream hear; ``None`` = in the windows of :attr:`hearing`."""
        return None

    @property
    def frames_ahead(self) -> int:
        """Frames of sound behind a clip's own that a stream waits for."""
        return max(self.config.audio.context_frames + self.config.audio.right_context_frames, 1)

    def least_samples(self) -> int:
        """Samples of the shortest sound that a whole video can be made of; shorter ones are filled up with silence."""
        return 0

    def video_frames(self, samples: int) -> int:
        """Frames of the whole video of a sound of so many samples. Only where :attr:`is_whole_video` says so."""
        raise NotImplementedError(f"the family {self.name} makes clip after clip")

    def attended(self, samples: int) -> Array:
        """(frames, rows): which of the encoder's rows each frame of the whole video attends to. As above."""
        raise NotImplementedError(f"the family {self.name} makes clip after clip")

    @property
    def noise_limit(self) -> float | None:
        """Noise is cut off at this distance from 0; ``None`` = it is taken as it is."""
        return None

    @property
    def needs_face(self) -> bool:
        """Whether a picture in which no face is found is refused. Otherwise its largest square is animated, all of it
        taken for the face."""
        return True

    def crop(self, face: Box, width: int, height: int) -> Box | None:
        """The square of a picture that is animated, in whole pixels; ``None`` = as usual. ``face``: box of the face."""
        return None

    @property
    def clip_words(self) -> str:
        """How a clip goes over into the next, for people."""
        return f"{self.config.frames} frames, continuing {self.config.motion_frames} of the clip before"

    @property
    @abstractmethod
    def roles(self) -> frozenset[str]:
        """Roles for which a bundle must have a graph, ``step`` left out: of that it has one or several."""

    @abstractmethod
    def face_mask(self, portrait: Portrait, head_room: float | None = None) -> Array:
        """The face locator's picture: (1, channels, size, size) float32. Raises :class:`ConfigError`."""

    @abstractmethod
    def portrait_inputs(
        self, portrait: Portrait, given: FaceInputs, original: Array, head_room: float | None = None
    ) -> dict[str, Array]:
        """What the portrait's graphs take beside the picture, by tensor name, all float32, ``face_mask`` among them.

        ``original``: (H, W, 3) uint8, the upright picture that ``portrait`` was made of. Raises :class:`InputError`
        where something is missing, cannot be used or is not taken by this model, and :class:`ConfigError`.
        """

    def with_landmarks(self, given: FaceInputs | None, found: Array | None) -> FaceInputs | None:
        """What is given, and the landmarks (478, 2) that were ``found``, in families that take them."""
        return given

    @property
    def anonymous(self) -> FaceInputs:
        """What any picture can do with, for runs that measure or warm up."""
        return FaceInputs()

    @property
    def hearing(self) -> HearingWindows:
        """What the audio encoder hears at once."""
        audio = self.config.audio
        left, right = audio.left_context_frames, audio.right_context_frames
        frames = self.config.frames + 2 * audio.context_frames if audio.window_frames else 0
        return HearingWindows(left, frames, right, self.config.fps, audio.normalize)

    def heard(self, waveform: Array) -> Iterator[tuple[Array, int]]:
        """What the audio encoder takes for a sound (samples,) at 16 kHz, run by run, and how many rows of its output
        count."""
        yield waveform[None], -(-len(waveform) * self.config.fps // AUDIO_SAMPLE_RATE)

    def plan(self, state: ClipState) -> Plan:
        """How the next clip is made."""
        everything = range(self.config.frames)
        motion = self.first_motion if state.index == 0 else "carried"
        return Plan(motion, (Call("clip", everything),), (Call("step", everything),))

    @property
    @abstractmethod
    def first_motion(self) -> Literal["none", "zeros", "portrait"]:
        """Motion frames of the first clip."""

    @property
    def carry(self) -> tuple[Call, ...]:
        """Calls that turn the end of a clip into the next one's motion frames, on the device. None: they are the last
        latents themselves. What such a call decodes need not be decoded again."""
        return ()

    @property
    def motion_frames(self) -> range:
        """Frames of a clip that the next one continues."""
        return range(self.config.frames - self.config.motion_frames, self.config.frames)
