"""What is fuzzed: each loader of something that comes from outside, what it may raise, and what it is tried with first.

A loader takes bytes. It returns, or raises an error that says what is wrong with them. Anything else is a finding:
another exception, a warning, a crash, a hang, memory without end. :mod:`tests.fuzz.run` (atheris) and
``test_loaders.py`` (hypothesis, in every run of the tests) share this list.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from emo_rt.batch.manifest import Row
from emo_rt.batch.manifest import read_manifest as read_list
from emo_rt.errors import EmoRtError
from emo_rt.media.audio import open_audio
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait
from emo_rt.media.marking.reading import verify
from emo_rt.media.picture import load_picture
from emo_rt.media.probe import probe
from emo_rt.media.video_file import VideoOptions, VideoWriter
from emo_rt.model.bundle import DEMO_FOLDER, MANIFEST, Bundle
from emo_rt.model.contract import TensorSpec
from emo_rt.model.onnx_files import external_locations, renamed_locations
from emo_rt.runtime.avatar_file import read_avatar, save_avatar
from emo_rt.runtime.request import Request
from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import Form
from emo_rt.serve.live_start import read_message, read_start
from emo_rt.serve.rtc_offer import SDP_BYTES
from emo_rt.serve.submission import read_submission
from tests.media.encoded import SOUNDS, VIDEOS, encode_sound, encode_video

LONGEST_S = 30.0
"""Seconds of sound that are decoded at most: a fuzzer soon finds headers that declare hours of silence."""


@dataclass(frozen=True)
class Loader:
    """One way in."""

    load: Callable[[bytes], object]
    """Reads the bytes to their end."""
    seeds: Callable[[], Iterator[bytes]]
    """Good ones, to begin with."""
    refusals: tuple[type[Exception], ...] = (EmoRtError,)
    """What it may raise."""
    examples: int = 40
    """How often a run of the tests tries it."""

    def __call__(self, data: bytes) -> bool:
        """Whether the bytes were accepted. Raises what is a finding."""
        try:
            self.load(data)
        except self.refusals:
            return False
        return True


@cache
def _folder() -> Path:
    """Of this process. Removed with it, by whoever set ``TMPDIR`` or by the system."""
    return Path(tempfile.mkdtemp(prefix="emo_rt-fuzz-"))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


# Sound and video


def _load_sound(data: bytes) -> None:
    source = open_audio(_file("sound", data), max_duration_s=LONGEST_S)
    total = sum(len(block) for block in source.blocks())
    assert total == source.samples


def _encoded(cases: Any, encode: Callable[[Path, str, str], object]) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for muxer, name, encoder in cases:
            encode(Path(folder) / name, muxer, encoder)
            yield (Path(folder) / name).read_bytes()


# Marks


def _load_marked(data: bytes) -> None:
    found = verify(_file("marked", data))
    assert found.c2pa.state in ("absent", "unsupported", "unchecked", "valid", "trusted", "invalid")
    assert found.watermark.frames > 0


def _marked() -> Iterator[bytes]:
    """One video of each container, without the encoders that take long; one with all marks."""
    yield from _encoded([case for case in VIDEOS if case[2] in ("libx264", "libvpx", "mpeg4")], encode_video)
    with tempfile.TemporaryDirectory() as folder:
        chosen: dict[str, Any] = {}
        if find_spec("c2pa") is not None:
            from tests.media.certificates import make_chain

            chosen["c2pa_cert"], chosen["c2pa_key"] = make_chain(Path(folder))
        target = Path(folder) / "a.mp4"
        with VideoWriter(target, width=64, height=64, fps=25, options=VideoOptions(**chosen)) as writer:
            writer.write(np.full((3, 64, 64, 3), 128, np.uint8))
        yield target.read_bytes()


# Pictures


def _load_picture(data: bytes) -> None:
    picture = load_picture(_file("picture", data))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3


def _pictures() -> Iterator[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 36, 4), np.uint8)
    kinds = [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA")]
    kinds += [("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("PPM", "L"), ("AVIF", "RGB")]
    kinds += [("JPEG2000", "RGB")]
    for form, mode in kinds:
        image = Image.fromarray(noise).convert("L" if mode == "I;16" else mode.replace("CMYK", "RGB"))
        with io.BytesIO() as target:
            image.convert(mode).save(target, form)
            yield target.getvalue()


# A bundle


@cache
def _manifest() -> str:
    manifest = json.loads((DEMO_FOLDER / MANIFEST).read_text(encoding="utf-8"))
    for entry in manifest["files"].values():
        entry["bytes"] = 0
    return json.dumps(manifest)


@cache
def _bundle() -> Path:
    """The demo bundle with empty files: reading its graphs, a thousand times a second, is what ``graph`` is for."""
    for name in json.loads(_manifest())["files"]:
        path = _folder() / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return _folder() / "bundle"


def _load_manifest(data: bytes) -> None:
    (_bundle() / MANIFEST).write_bytes(_edited(_manifest(), data))
    Bundle.open(_bundle(), verify=False)


def _load_graph(data: bytes) -> None:
    """Whatever protobuf itself sees must be seen, and renaming must rename all of it and nothing else."""
    path = _file("graph.onnx", data)
    found = external_locations(path)
    assert found >= _seen_by_protobuf(data)
    names = {name: f"{number}.bin" for number, name in enumerate(sorted(found)) if name}
    renamed = renamed_locations(path, names)
    assert external_locations(_file("renamed.onnx", renamed)) - {""} == set(names.values())


def _seen_by_protobuf(data: bytes) -> set[str]:
    """By ``onnx``, where it is installed, of the weights of the outermost graph."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return set()
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return set()
    entries = [entry for weights in model.graph.initializer for entry in weights.external_data]
    return {entry.value for entry in entries if entry.key == "location"}


def _graphs() -> Iterator[bytes]:
    for path in sorted(DEMO_FOLDER.rglob("*.onnx"), key=lambda path: path.stat().st_size)[:3]:
        yield path.read_bytes()
    entry = _field(1, b"location") + _field(2, b"a.bin")
    yield _field(7, _field(5, _field(13, entry)))


def _field(number: int, content: bytes) -> bytes:
    """Of a protobuf message; less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


# An avatar: of a model that is as small as can be, in place of a loaded one


def _load_avatar(data: bytes) -> None:
    read_avatar(_file("avatar.npz", data), _small_model())


@cache
def _small_model() -> Any:
    specs = (TensorSpec("face", "float32", (1, 4)), TensorSpec("sites", "float16", (2, 3)))
    return SimpleNamespace(
        bundle=SimpleNamespace(sha256="0" * 64),
        config=SimpleNamespace(size=32),
        portrait_tensors=lambda: specs,
        kept_inputs=tuple,
    )


@dataclass(frozen=True)
class Feature:
    """In place of a buffer on a device."""

    values: Any

    def read(self) -> Any:
        return self.values


def _avatars() -> Iterator[bytes]:
    picture = np.zeros((40, 36, 3), np.uint8)
    portrait = Portrait(picture=picture, pixels=picture[:32, :32], crop=Box(0, 0, 36, 36), face=Box(8, 8, 24, 24))
    features = {spec.name: Feature(np.zeros(spec.shape, spec.dtype)) for spec in _small_model().portrait_tensors()}
    path = _folder() / "seed.npz"
    save_avatar(path, portrait, features, _small_model())  # type: ignore[arg-type]
    yield path.read_bytes()


# Requests: lists of videos, JSON, what the server hears

REQUEST: Mapping[str, Any] = {
    "id": "a",
    "portrait": "a.png",
    "voice": "a.wav",
    "seed": 7,
    "face_box": [1, 2, 30, 40],
    "guidance_interval": [0, 0.5],
    "steps": 4,
    "max_audio": "inf",
    "crf": 20,
}
WITHOUT_ID = {name: value for name, value in REQUEST.items() if name != "id"}
START: Mapping[str, Any] = {
    "type": "session.start",
    "image_reference": {"image_url": "data:image/png;base64,iVBORw0KGgo="},
    "num_inference_steps": 1,
    "idle": "loop",
    "sample_rate": 16_000,
    "jitter_s": 0.2,
    "extra_params": {"guidance": 1, "face_box": "full"},
    "fragment_frames": 4,
}
JOB: Mapping[str, Any] = {
    "model": "demo",
    "prompt": "hello",
    "seconds": "1.5",
    "size": "64x64",
    "input_reference": {"image_url": "data:image/png;base64,iVBORw0KGgo="},
    "audio_reference": {"audio_url": "data:,abc"},
    "guidance_scale": "2",
    "extra_params": '{"mode": "fast"}',
}


def _load_list(data: bytes) -> None:
    rows = read_list(_file("list.jsonl", _edited(json.dumps(REQUEST), data)))
    _first_error(rows)


def _load_table(data: bytes) -> None:
    _first_error(read_list(_file("list.csv", data)))


def _first_error(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.error is not None:
            raise row.error


def _load_request(data: bytes) -> None:
    request = Request.from_dict(_json(_edited(json.dumps(WITHOUT_ID), data)))
    again = Request.from_dict(request.to_dict())
    assert again.digest() == request.digest()


def _load_message(data: bytes) -> None:
    text = _edited(json.dumps(START), data).decode("utf-8", "replace")
    start = read_start(read_message(text, 4 << 20))
    Request.from_dict({"portrait": "a", "voice": "b", **start.options})


def _load_job(data: bytes) -> None:
    fields = _json(_edited(json.dumps(JOB), data))
    if isinstance(fields, dict):
        found = read_submission(Form(fields={name: value for name, value in fields.items() if value is not None}))
        Request.from_dict({"portrait": "a", "voice": "b", **found.options})


def _load_offer(data: bytes) -> None:
    from emo_rt.serve.rtc_sdp import read_offer

    read_offer(data.decode("utf-8", "replace")[:SDP_BYTES])


OFFER = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=candidate:1 1 UDP 2122252543 192.0.2.1 50000 typ host
a=fingerprint:sha-256 00:11:22
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:sha-256 00:11:22
a=setup:actpass
a=mid:1
a=recvonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
""".replace("\n", "\r\n").encode()


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


# JSON that is mostly right: random bytes would fail at the first bracket and reach nothing behind it

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "a", "\0", "..", "/", "\ud800", "é" * 300, "inf", "full", "1,2,3,4", "data:,a", "data:;base64,=", "1e999"),
    *([], [None], [[]], [0] * 70, ["a", "b"], {}, {"": {}}, {"a": None}, {"type": "float32", "shape": [1]}),
)
"""Values that are of a wrong type or at an edge."""
EDIT = 0xFF
"""First byte of data that is edits. No UTF-8 text begins with it, so a fuzzer can give text as well."""


def _edited(text: str, data: bytes) -> bytes:
    """``data`` itself, or JSON with some of its values replaced, removed or added to, as the bytes of ``data`` say."""
    if data[:1] != bytes([EDIT]):
        return data
    root = [json.loads(text)]
    numbers = iter(data[1:])
    try:
        while True:
            _edit(root, numbers)
    except StopIteration:
        return json.dumps(root[0]).encode()


def _edit(root: list[Any], numbers: Iterator[int]) -> None:
    """One edit: how deep, which way at each branch, what is done there."""
    place: Any = root
    key: Any = 0
    for _ in range(next(numbers) % 6):
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        place = inner
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        key = list(keys)[next(numbers) % len(inner)]
    action = next(numbers) % 4
    if action < 2 or place is root:
        place[key] = _copy(ODD[next(numbers) % len(ODD)])
    elif action == 2:
        del place[key]
    elif isinstance(place, dict):
        place[str(ODD[next(numbers) % len(ODD)])] = _copy(place[key])
    else:
        place.append(_copy(place[key]))


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _texts(value: Mapping[str, Any]) -> Iterator[bytes]:
    yield bytes([EDIT])  # no edit yet
    yield json.dumps(value).encode()


ASKED = (EmoRtError, ApiError)
TABLE = b"id,portrait,voice,seed,face_box\na,a.png,a.wav,1,full\n"
LOADERS: dict[str, Loader] = {
    "audio": Loader(_load_sound, lambda: _encoded(SOUNDS, encode_sound)),
    "video": Loader(lambda data: probe(_file("video", data)), lambda: _encoded(VIDEOS, encode_video)),
    "marks": Loader(_load_marked, _marked, examples=15),
    "picture": Loader(_load_picture, _pictures),
    "manifest": Loader(_load_manifest, lambda: iter([bytes([EDIT])])),
    "graph": Loader(_load_graph, _graphs),
    "avatar": Loader(_load_avatar, _avatars),
    "list": Loader(_load_list, lambda: _texts(REQUEST)),
    "table": Loader(_load_table, lambda: iter([TABLE])),
    "request": Loader(_load_request, lambda: _texts(WITHOUT_ID)),
    "message": Loader(_load_message, lambda: _texts(START), ASKED),
    "job": Loader(_load_job, lambda: _texts(JOB), ASKED),
}
if find_spec("aiortc") is not None:
    LOADERS["offer"] = Loader(_load_offer, lambda: iter([OFFER]), ASKED)
"""By name; ``offer``, of a session over WebRTC, where aiortc is installed."""
