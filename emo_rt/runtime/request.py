"""One video as it is asked for: whose face, which voice, and every option of how.

The one schema for whatever takes requests from outside of Python: command line, manifests, server. There each option
has one name (:attr:`emo_rt.schema.option.Option.name`), and all of them stand side by side::

    {"portrait": "portrait.png", "voice": "speech.wav", "seed": 7, "mode": "fast", "face_box": "full", "crf": 20}
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from emo_rt.checks import check
from emo_rt.media.box import Box, FaceBox, parse_face_box
from emo_rt.media.framing import VIDEO_SIDES
from emo_rt.media.picture import MAX_PIXELS, PIXELS
from emo_rt.media.video_file import VideoOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.schema.compound import Coded, Several
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import Option, Outside, check_options, options_of, refuse_unknown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""JSON Schema that :meth:`Request.json_schema` speaks."""


def _is_face_box(value: object) -> bool:
    return isinstance(value, Box) or (isinstance(value, str) and value == "full")


def _written_face_box(box: FaceBox) -> str | list[float]:
    return list(dataclasses.astuple(box)) if isinstance(box, Box) else box


FACE_BOX = Coded(
    expected="left,top,right,bottom in pixels, or full",
    belongs=_is_face_box,
    parse=parse_face_box,
    write=_written_face_box,
    written={"anyOf": [{"const": "full"}, Several(("left", "top", "right", "bottom")).schema]},
    placeholder="L,T,R,B",
)
"""A :class:`Box`, or ``full``."""


@dataclass(frozen=True)
class PrepareOptions:
    """How :meth:`emo_rt.Animator.prepare` treats a picture."""

    face_box: Annotated[FaceBox | None, FACE_BOX] = None
    """Place of the face in the upright picture: left,top,right,bottom in pixels, or full for the largest centred
    square. ``None`` = found.

    A :class:`Box`. With ``None`` the face is looked for, or its place taken from the landmarks of ``face``."""
    face_index: Annotated[int | None, Range(0, math.inf)] = None
    """Which of several faces, the largest is 0. `emo-rt faces` numbers them. ``None`` = the only one.

    Or one that is much larger than all others."""
    max_side: Annotated[int, VIDEO_SIDES] = 1920
    """Longest side of the video."""
    max_pixels: Annotated[int, PIXELS, Outside(placeholder="N")] = MAX_PIXELS
    """Largest picture that is decoded of a file, in pixels: memory is in proportion. A larger JPEG is decoded at a
    half, a quarter or an eighth of its sides."""
    head_room: Annotated[float | None, Range(0, math.inf, "0 or more, or inf"), Outside(placeholder="SHARE")] = None
    """How far beyond its box the face may move, as a share of the box. For models that heed it. ``None`` = the model's
    own.

    On each side; the paper's face locator, a weak control. 0 holds the face stiller, infinity leaves it free."""
    face: FaceInputs | None = None
    """What Hallo models need to know of the face besides; others take none."""

    def __post_init__(self) -> None:
        check_options(self)


class PrepareChanges(TypedDict, total=False):
    """Fields of :class:`PrepareOptions` as single keywords, so that editors and type checkers know them."""

    face_box: FaceBox | None
    face_index: int | None
    max_side: int
    max_pixels: int
    head_room: float | None
    face: FaceInputs | None


@dataclass(frozen=True)
class Request:
    """One video. Outside of Python: a flat mapping, see :meth:`from_dict`."""

    portrait: str
    """Picture of a person: PNG, JPEG, WebP, …"""
    voice: str
    """Sound, or a video with sound: WAV, MP3, M4A, FLAC, MP4, …"""
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    """What to see in the picture."""
    animate: AnimateOptions = field(default_factory=AnimateOptions)
    """How to move it."""
    video: VideoOptions = field(default_factory=VideoOptions)
    """How to encode it."""

    def __post_init__(self) -> None:
        check_options(self)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Request:
        """Read plain JSON values: ``portrait``, ``voice`` and any of the options by their names.

        Infinity is written ``"inf"``, a face box as ``"full"``, four numbers or a text of them. Raises
        :class:`ConfigError` for an unknown name, and for a value of a wrong type or out of range, with the name, the
        value and what is expected; :class:`PortraitError` for an impossible box.
        """
        check(isinstance(mapping, Mapping), "the request", mapping, "an object with portrait, voice and options")
        known = {option.name: (section, option) for section, option in _all_options()}
        refuse_unknown(mapping, known, "field")
        missing = [name for name in ("portrait", "voice") if name not in mapping]
        check(not missing, "the request", dict(mapping), f"a {' and a '.join(missing)} in it, too")
        values: dict[type, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, plain in mapping.items():
            section, option = known[name]
            values[section][option.field] = option.load(plain)
        face = FaceInputs(**values[FaceInputs]) if values[FaceInputs] else None
        prepare = PrepareOptions(**values[PrepareOptions], face=face)
        animate, video = AnimateOptions(**values[AnimateOptions]), VideoOptions(**values[VideoOptions])
        return cls(**values[cls], prepare=prepare, animate=animate, video=video)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that :meth:`from_dict` reads: both inputs and what is not as by default.

        Raises :class:`ConfigError` for a value that only Python has, like an array in place of a file.
        """
        return {"portrait": self.portrait, "voice": self.voice, **self._options()}

    def digest(self) -> str:
        """SHA-256 of the options in hex, inputs left out: the same for requests that differ in those alone.

        An option that is as by default does not count, so a later version with more options gives the same. Files in
        options (masks, embedding) count by their names.
        """
        text = json.dumps(self._options(), sort_keys=True, ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of what :meth:`from_dict` reads."""
        properties = {option.name: option.schema for _, option in _all_options()}
        for name in ("portrait", "voice"):
            del properties[name]["default"]
        return {
            "$schema": DIALECT,
            "title": cls.__name__,
            "type": "object",
            "properties": properties,
            "required": ["portrait", "voice"],
            "additionalProperties": False,
        }

    def _options(self) -> dict[str, Any]:
        """By outside name, what is not as by default."""
        sections = {PrepareOptions: self.prepare, FaceInputs: self.prepare.face or FaceInputs()}
        sections |= {AnimateOptions: self.animate, VideoOptions: self.video}
        found = {}
        for section, option in _all_options():
            if section is Request:
                continue
            value = getattr(sections[section], option.field)
            if value is not option.default and option.dump(value) != option.dump(option.default):
                found[option.name] = option.dump(value)
        return found


SECTIONS: tuple[type, ...] = (Request, PrepareOptions, FaceInputs, AnimateOptions, VideoOptions)
"""Dataclasses whose options a request has."""


def _all_options() -> Iterator[tuple[type, Option]]:
    for section in SECTIONS:
        yield from ((section, option) for option in options_of(section) if not option.is_hidden)
