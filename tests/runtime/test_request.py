"""The one schema of a video: read from plain values, written back, refused with words, and described truly."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import threading
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator, Box, EmoRtError, FaceInputs, PrepareOptions, Request, VideoOptions
from emo_rt.errors import ConfigError
from emo_rt.model.options import AnimateChanges
from emo_rt.runtime.live.settings import LiveChanges, LiveSettings
from emo_rt.runtime.request import PrepareChanges
from emo_rt.runtime.settings import RunSettings
from emo_rt.runtime.stages import Control

INPUTS = {"portrait": "portrait.png", "voice": "speech.wav"}
EVERYTHING: dict[str, Any] = {
    **INPUTS,
    "face_box": [10.0, 20.0, 110.0, 140.0],
    "max_side": 1280,
    "head_room": "inf",
    "no_face_embedding": True,
    "masks": ["a.png", "b.png", "c.png"],
    "seed": 7,
    "steps": 12,
    "solver": "unipc",
    "guidance": 2.5,
    "guidance_interval": [0.2, 0.8],
    "speed": 0.8,
    "paste_back": False,
    "max_audio": 60.0,
    "mode": "fast",
    "codec": "libx264",
    "crf": 20,
    "preset": "best",
    "generated_mark": False,
    "audio_bitrate": 96000,
}


def test_every_option_reaches_its_section() -> None:
    request = Request.from_dict(EVERYTHING)
    assert (request.portrait, request.voice) == ("portrait.png", "speech.wav")
    assert request.prepare.face_box == Box(10, 20, 110, 140)
    assert (request.prepare.max_side, request.prepare.head_room) == (1280, math.inf)
    assert request.prepare.face is not None
    assert (request.prepare.face.no_embedding, request.prepare.face.masks) == (True, ("a.png", "b.png", "c.png"))
    assert request.animate == AnimateOptions(
        seed=7, steps=12, solver="unipc", guidance=2.5, guidance_interval=(0.2, 0.8), speed=0.8, paste_back=False,
        max_audio_s=60.0, preset="fast",
    )  # fmt: skip
    assert request.video == VideoOptions(
        codec="libx264", crf=20, preset="best", mark_generated=False, audio_bitrate=96000
    )


def test_it_is_written_as_it_was_read() -> None:
    assert Request.from_dict(EVERYTHING).to_dict() == EVERYTHING
    assert json.loads(json.dumps(Request.from_dict(EVERYTHING).to_dict(), allow_nan=False)) == EVERYTHING


def test_what_is_as_by_default_is_not_written() -> None:
    plain = {"seed": 0, "steps": None, "crf": 18, "face_box": None, "no_face_embedding": False}
    assert Request.from_dict({**INPUTS, **plain}).to_dict() == INPUTS


def test_a_face_box_is_a_word_a_text_or_numbers() -> None:
    boxes = [
        Request.from_dict({**INPUTS, "face_box": box}).prepare.face_box for box in ("full", "1,2,3,4", [1, 2, 3, 4])
    ]
    assert boxes == ["full", Box(1, 2, 3, 4), Box(1, 2, 3, 4)]


def test_an_array_cannot_be_written() -> None:
    face = FaceInputs(embedding=np.zeros(512))
    request = Request(**INPUTS, prepare=PrepareOptions(face=face))
    with pytest.raises(ConfigError, match="face_embedding is a ndarray; only the name of a file"):
        request.to_dict()


def test_a_path_is_written_as_its_name() -> None:
    face = FaceInputs(embedding_model=Path("models/glintr100.onnx"))
    written = Request(**INPUTS, prepare=PrepareOptions(face=face)).to_dict()
    assert written["embedding_model"] == "models/glintr100.onnx"


BAD: list[tuple[Any, str]] = [
    ([1], r"the request is \[1\]; expected an object"),
    ({"voice": "a.wav"}, "expected a portrait in it, too"),
    ({}, "expected a portrait and a voice in it"),
    ({**INPUTS, "sede": 1}, r"unknown field 'sede' \(do you mean seed\?\)"),
    ({**INPUTS, "generator": "me"}, "unknown field 'generator'"),
    ({**INPUTS, "face": {}}, "unknown field 'face'"),
    ({**INPUTS, "portrait": 3}, "portrait is 3; expected a text"),
    ({**INPUTS, "seed": -1}, r"seed is -1; expected an integer, 0 … 2\*\*63 - 1"),
    ({**INPUTS, "seed": True}, "seed is True; expected an integer"),
    ({**INPUTS, "steps": "4"}, "steps is '4'; expected an integer from 1 to 1000"),
    ({**INPUTS, "steps": 4.0}, r"steps is 4\.0; expected an integer from 1 to 1000"),
    ({**INPUTS, "mode": 3}, "mode is 3; expected a text"),
    ({**INPUTS, "max_audio": 0}, "max_audio is 0; expected more than 0"),
    ({**INPUTS, "guidance": "inf"}, "guidance is 'inf'; expected 0 … 50"),
    ({**INPUTS, "guidance_interval": [0.8, 0.2]}, "0 ≤ first < last ≤ 1"),
    ({**INPUTS, "motion_scale": [1, 1]}, "motion_scale is .* expected three numbers from 0 to 10"),
    ({**INPUTS, "masks": "a,b,c"}, "masks is 'a,b,c'; expected three names of files"),
    ({**INPUTS, "face_box": [1, 2, 3]}, r"face_box is \[1, 2, 3\]; expected left,top,right,bottom"),
    ({**INPUTS, "face_box": [3, 2, 1, 4]}, "face_box is .* expected left,top,right,bottom"),
    ({**INPUTS, "fragmented": "yes"}, "fragmented is 'yes'; expected True or False"),
    ({**INPUTS, "codec": ["h264"]}, "codec is .* expected one of auto, h264_nvenc, libx264"),
    ({**INPUTS, "crf": None}, "crf is None; expected an integer from 0 to 51"),
]


@pytest.mark.parametrize(("mapping", "message"), BAD)
def test_what_is_wrong_is_named(mapping: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Request.from_dict(mapping)


def test_the_digest_is_of_the_options_alone() -> None:
    one, other = Request.from_dict(EVERYTHING), Request.from_dict({**EVERYTHING, "voice": "another.wav"})
    assert one.digest() == other.digest()
    digests = {Request.from_dict({key: value for key, value in EVERYTHING.items() if key != left_out}).digest()
               for left_out in EVERYTHING if left_out not in INPUTS}  # fmt: skip
    assert len(digests - {one.digest()}) == len(EVERYTHING) - len(INPUTS)
    assert Request(**INPUTS).digest() == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}


class TestSchema:
    @pytest.fixture
    def accepts(self) -> Callable[[Any], bool]:
        jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed; the extra dev brings it")
        schema = json.loads(json.dumps(Request.json_schema(), allow_nan=False))
        jsonschema.Draft202012Validator.check_schema(schema)
        return lambda value: bool(jsonschema.Draft202012Validator(schema).is_valid(value))

    def test_takes_what_a_request_takes(self, accepts: Callable[[Any], bool]) -> None:
        assert accepts(EVERYTHING)
        assert accepts(INPUTS)
        for name, value in EVERYTHING.items():
            assert accepts({**INPUTS, name: value}), name

    def test_refuses_what_a_request_refuses(self, accepts: Callable[[Any], bool]) -> None:
        """But for what JSON Schema cannot say: order of numbers, and that 4.0 is no integer of ours."""
        unsaid = ("4.0", "0.8, 0.2", "3, 2, 1, 4")
        said = [mapping for mapping, _ in BAD if not any(text in str(mapping) for text in unsaid)]
        assert len(said) == len(BAD) - len(unsaid)
        assert [mapping for mapping in said if accepts(mapping)] == []

    def test_describes_every_property(self) -> None:
        properties = Request.json_schema()["properties"]
        assert all(one["description"] for one in properties.values())
        assert properties["speed"]["description"].startswith("Head speed. Speech 0.1–1.0")
        assert properties["crf"] == {**properties["crf"], "minimum": 0, "maximum": 51, "default": 18}


@pytest.mark.parametrize(
    ("keywords", "options"), [(AnimateChanges, [AnimateOptions]), (LiveChanges, [AnimateOptions, LiveSettings]),
                              (PrepareChanges, [PrepareOptions]), (RunSettings, [AnimateOptions, Control])],
)  # fmt: skip
def test_keywords_are_the_fields(keywords: Any, options: list[type]) -> None:
    """Names and types: the two are written beside each other, as no type checker derives one from the other."""
    expected: dict[str, Any] = {"options": AnimateOptions | None} if keywords is RunSettings else {}
    for cls in options:
        expected |= typing.get_type_hints(cls)
    assert typing.get_type_hints(keywords) == expected


@pytest.mark.parametrize("name", ["animate", "stream", "open_session"])
def test_methods_take_the_same_keywords(name: str) -> None:
    (settings,) = (p for p in inspect.signature(getattr(Animator, name)).parameters.values() if p.kind is p.VAR_KEYWORD)
    assert settings.annotation == "Unpack[RunSettings]"


SILENCE = np.zeros(640, np.float32)
GREY = np.full((64, 64, 3), 128, np.uint8)
WRONG_TYPES: dict[str, Callable[[Animator, Any], object]] = {
    "audio none": lambda animator, avatar: animator.animate(avatar, None),  # type: ignore[arg-type]
    "audio list": lambda animator, avatar: animator.animate(avatar, [0.1], sample_rate=16_000),  # type: ignore[arg-type]
    "options dict": lambda animator, avatar: run(animator, avatar, options={"seed": 1}),
    "options of another kind": lambda animator, avatar: run(animator, avatar, options=VideoOptions()),
    "cancel": lambda animator, avatar: run(animator, avatar, cancel=True),
    "progress": lambda animator, avatar: run(animator, avatar, progress=5),
    "noise": lambda animator, avatar: run(animator, avatar, noise=SILENCE),
    "trace": lambda animator, avatar: run(animator, avatar, trace="trace.json"),
    "flag": lambda animator, avatar: run(animator, avatar, paste_back=np.array([1, 2])),
    "keyword": lambda animator, avatar: run(animator, avatar, sede=1),
    "stream": lambda animator, avatar: animator.stream(avatar, [], cancel=1),  # type: ignore[arg-type]
    "session": lambda animator, avatar: animator.open_session(avatar, progress=1),  # type: ignore[arg-type]
    "resolve": lambda animator, _: animator.resolve({"seed": 1}),  # type: ignore[arg-type]
    "warmup": lambda animator, _: animator.warmup({"seed": 1}),  # type: ignore[arg-type]
    "estimate": lambda animator, avatar: animator.estimate(1, avatar, options={}),  # type: ignore[arg-type]
    "picture": lambda animator, _: animator.prepare(None),  # type: ignore[arg-type]
    "max side": lambda animator, _: animator.prepare(GREY, max_side="x"),  # type: ignore[arg-type]
    "face box": lambda animator, _: animator.prepare(GREY, face_box=(1, 2, 3, 4)),  # type: ignore[arg-type]
    "face": lambda animator, _: animator.prepare(GREY, face={}),  # type: ignore[arg-type]
    "detector": lambda animator, _: animator.prepare(GREY, detector=5),  # type: ignore[arg-type]
    "prepare options": lambda animator, _: animator.prepare(GREY, options=AnimateOptions()),  # type: ignore[arg-type]
    "bundle": lambda *_: Animator.load(None),  # type: ignore[arg-type]
    "runtime": lambda *_: Animator.load(runtime="cpu"),  # type: ignore[arg-type]
    "threads": lambda *_: Animator.load(threads=True),
    "video options": lambda animator, avatar: run(animator, avatar).save("x.mp4", {"crf": 1}),
    "frames folder": lambda animator, avatar: run(animator, avatar, steps=1).save_frames(None),
    "avatar file": lambda _, avatar: avatar.save(None),
}


def run(animator: Animator, avatar: Any, **settings: Any) -> Any:
    return animator.animate(avatar, SILENCE, sample_rate=16_000, **settings)


@pytest.mark.parametrize("what", WRONG_TYPES)
def test_a_wrong_type_is_a_typed_error(
    tiny_animator: Animator, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    with tiny_animator.prepare(GREY, face_box="full") as avatar:
        with pytest.raises(EmoRtError, match=r"expected|unknown"):
            WRONG_TYPES[what](tiny_animator, avatar)
        assert run(tiny_animator, avatar, steps=1).numpy().size
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() <= max(before, 16)


def test_options_may_be_given_whole_and_single(tiny_animator: Animator) -> None:
    options = PrepareOptions(face_box="full", max_side=128)
    with tiny_animator.prepare(np.zeros((300, 200, 3), np.uint8), options=options, max_side=64) as avatar:
        assert max(avatar.portrait.picture.shape[:2]) == 64
    assert dataclasses.replace(options, max_side=64) == PrepareOptions(face_box="full", max_side=64)
