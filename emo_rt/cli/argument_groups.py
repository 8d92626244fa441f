"""Arguments that several commands share, and what turns their text into values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from emo_rt.device.registry import BACKENDS, DEVICES
from emo_rt.errors import PortraitError
from emo_rt.media.box import FaceBox, parse_face_box
from emo_rt.media.video_file import FORMATS, VideoOptions
from emo_rt.model.options import SOLVERS, AnimateOptions

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""How names of written pictures end."""
ANIMATE, VIDEO = AnimateOptions(), VideoOptions()
"""Where the defaults come from."""


def add_motion(group: Any) -> None:
    group.add_argument(
        "--seed", type=int, default=ANIMATE.seed, help="key of the noise: same seed, same video (default: %(default)s)"
    )
    add_mode(group, None)
    group.add_argument(
        "--guidance",
        type=float,
        help="guidance scale, 0 … 50; 1 = none, about twice as fast (default: the model's own)",
    )
    group.add_argument(
        "--guidance-interval", metavar="FIRST,LAST", type=two_numbers,
        help="guidance only in this part of the steps, like 0.2,0.8; the others cost half (default: the mode's)",
    )  # fmt: skip
    group.add_argument(
        "--deep-cache", metavar="N", type=int,
        help="compute the inner blocks in every Nth step only; for bundles exported for it (default: the mode's)",
    )  # fmt: skip
    group.add_argument(
        "--speed",
        type=float,
        help="head speed: speech 0.1-1.0, song 1.0-1.3; models with speed layers only (default: 0.5)",
    )
    group.add_argument(
        "--motion-scale", metavar="P,F,L", type=three_numbers,
        help="weight of the sound on pose, face, lips; Hallo models only (default: 1,1,1)",
    )  # fmt: skip


def add_sound(group: Any) -> None:
    group.add_argument(
        "--max-audio", metavar="SECONDS", type=float, dest="max_audio_s",
        help="longest sound that is accepted, inf for any; a longer one is an error (default: 14400, four hours)",
    )  # fmt: skip


def add_mode(group: Any, default: str | None) -> None:
    shown = default or "the model's own, as a rule quality"
    group.add_argument(
        "--mode", metavar="NAME", default=default,
        help="preset of the model, like quality, balanced, fast, realtime; `emo-rt info` lists them all "
        f"(default: {shown})",
    )  # fmt: skip
    group.add_argument("--steps", type=int, help="solver steps per clip (default: the mode's)")
    group.add_argument("--solver", choices=SOLVERS, help="solver (default: the mode's)")


def add_face(group: Any) -> None:
    group.add_argument(
        "--face-index", metavar="N", type=int,
        help="which of several faces, the largest is 0; `emo-rt faces` numbers them (default: the only one)",
    )  # fmt: skip
    group.add_argument(
        "--face-box", metavar="L,T,R,B", type=face_box,
        help="left,top,right,bottom of the face in pixels, or full for the largest centred square (default: found)",
    )  # fmt: skip
    group.add_argument(
        "--head-room", metavar="SHARE", type=float,
        help="how far beyond its box the face may move, 0 to inf, for models that heed it (default: the model's)",
    )  # fmt: skip
    group.add_argument(
        "--max-side", type=int, default=1920, help="longest side of the video in pixels (default: %(default)s)"
    )
    group.add_argument(
        "--paste-back", action=argparse.BooleanOptionalAction, default=ANIMATE.paste_back,
        help="put the animated square back into the whole picture (default: if the picture is larger)",
    )  # fmt: skip


def add_identity(group: Any) -> None:
    embedding = group.add_mutually_exclusive_group()
    embedding.add_argument(
        "--face-embedding", metavar="FILE.npy", type=Path, help="embedding of the face, made by a recognition model"
    )
    embedding.add_argument(
        "--embedding-model", metavar="FILE.onnx", type=Path,
        help="recognition model that computes it, like InsightFace's glintr100.onnx; brings a licence of its own",
    )  # fmt: skip
    embedding.add_argument(
        "--no-face-embedding", action="store_true", help="do without an embedding, at the cost of likeness"
    )
    group.add_argument(
        "--landmarks", metavar="FILE.npy", type=Path,
        help="MediaPipe face mesh, (468 or 478, 2) pixels of the picture (default: found; estimated with --face-box)",
    )  # fmt: skip
    group.add_argument(
        "--masks", metavar="FULL,FACE,LIP", type=three_files,
        help="three square pictures of where the sound acts, white = fully (default: made from the landmarks)",
    )  # fmt: skip


def add_encoding(group: Any) -> None:
    group.add_argument(
        "--codec",
        choices=("auto", "h264_nvenc", "libx264"),
        default=VIDEO.codec,
        help="H.264 encoder (default: %(default)s)",
    )
    group.add_argument("--crf", type=int, default=VIDEO.crf, help="quality, 0 (best) … 51 (default: %(default)s)")
    group.add_argument(
        "--preset",
        choices=("fast", "balanced", "best"),
        default=VIDEO.preset,
        help="encoding effort (default: %(default)s)",
    )
    group.add_argument("--fragmented", action="store_true", help="MP4 that plays while it is written (default: off)")
    group.add_argument(
        "--no-generated-mark",
        action="store_true",
        help="don't mark the file as AI-generated in its metadata (default: mark)",
    )


def add_machine(group: Any) -> None:
    group.add_argument(
        "--device", choices=DEVICES, default="auto", help="only auto chooses by itself (default: %(default)s)"
    )
    runtimes = "runtime; openvino is the faster one on a CPU (default: %(default)s)"
    group.add_argument("--backend", choices=BACKENDS, default="auto", help=runtimes)
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads per graph (default: one per core)")


def add_overwrite(group: Any, what: str = "video") -> None:
    group.add_argument("--overwrite", action="store_true", help=f"replace an existing {what} (default: refuse)")


def add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON with a stable schema (default: as text)")


def add_quiet(group: Any) -> None:
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, no receipt; errors and warnings only (default: off)"
    )


def video_name(text: str) -> str:
    if text != "-" and Path(text).suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} is no video name; it must end in {', '.join(FORMATS)}")
    return text


def picture_name(text: str) -> Path:
    if Path(text).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} is no picture name; it must end in {', '.join(PICTURES)}")
    return Path(text)


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def two_numbers(text: str) -> tuple[float, ...]:
    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers: first,last, like 0.2,0.8") from exc
    return first, last


def three_numbers(text: str) -> tuple[float, ...]:
    try:
        pose, face, lips = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} must be three numbers: pose,face,lips, like 1,1,1.2") from exc
    return pose, face, lips


def three_files(text: str) -> tuple[Path, ...]:
    files = tuple(Path(name) for name in text.split(","))
    if len(files) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} must be three files: FULL,FACE,LIP")
    return files


def face_box(text: str) -> FaceBox:
    try:
        return parse_face_box(text)
    except PortraitError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
