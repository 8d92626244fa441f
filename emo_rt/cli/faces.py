"""`emo-rt faces`: what the built-in networks see in a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.cli import terminal
from emo_rt.cli.options import add_json, add_overwrite, picture_name
from emo_rt.errors import OutputError
from emo_rt.faces import as_json, default_finder, draw_faces
from emo_rt.faces.choice import remarks
from emo_rt.files import whole_file
from emo_rt.media.face import Face
from emo_rt.media.picture import PIXELS, open_picture

EXAMPLES = """examples:
  emo-rt faces team.jpg
  emo-rt faces team.jpg -o drawn.png
  emo-rt faces team.jpg --json | jq '.faces[0].blendshapes.jawOpen'"""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    picture: Path
    """The picture."""
    as_json: bool = False
    """Print JSON instead of text."""
    out: Path | None = None
    """Where the drawn picture goes, or nothing."""
    overwrite: bool = False
    """Replace an existing picture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument("picture", type=Path, help="PNG, JPEG, WebP, …")
    add_json(parser)
    parser.add_argument(
        "-o", "--out", metavar="DRAWN", type=picture_name,
        help="write the picture with all faces drawn and numbered: .png, .jpg, .webp (default: don't)",
    )  # fmt: skip
    add_overwrite(parser, "picture")


def run(args: argparse.Namespace) -> None:
    """Find the faces and print them."""
    show(Request(args.picture, as_json=args.json, out=args.out, overwrite=args.overwrite))


def show(request: Request) -> None:
    """Find the faces and print them. Raises :class:`PortraitError`, :class:`OutputError`, …"""
    if request.out is not None:
        _check_target(request.out, request)
    picture = open_picture(request.picture, int(PIXELS.high))
    faces = default_finder().find(picture.pixels)
    if request.out is not None:
        _write(request.out, draw_faces(picture.pixels, faces))
    width, height = picture.width, picture.height
    faces = [face.scaled(1 / picture.across, 1 / picture.down) for face in faces]
    if request.as_json:
        terminal.say(json.dumps(as_json(width, height, faces)))
    else:
        terminal.say(as_text(f"{request.picture.name}: {width}x{height} pixels", faces))
        if request.out is not None:
            terminal.say(f"drawn in {request.out}")


def as_text(title: str, faces: Sequence[Face]) -> str:
    """The same for people: a line per face, the number in front is its ``face_index``."""
    if not faces:
        return f"{title}, no face found"
    rows = [(f"face {index}", _words(face)) for index, face in enumerate(faces)]
    return f"{title}, {len(faces)} {'face' if len(faces) == 1 else 'faces'}\n{terminal.pairs(rows)}"


def _words(face: Face) -> str:
    box, pose = face.box, face.pose
    place = f"{box.left:.0f},{box.top:.0f},{box.right:.0f},{box.bottom:.0f} ({box.width:.0f}x{box.height:.0f} pixels)"
    turned = f"yaw {round(pose.yaw)}°, pitch {round(pose.pitch)}°, roll {round(pose.roll)}°"
    strongest = sorted(face.blendshapes.items(), key=lambda item: -item[1])[:3]
    expression = ", ".join(f"{name} {score:.2f}" for name, score in strongest)
    return "; ".join([f"{place}, score {face.score:.3f}", turned, expression, *remarks(face)])


def _check_target(path: Path, request: Request) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")
    if path.exists() and request.picture.exists() and path.samefile(request.picture):
        raise OutputError(f"{path} is the picture itself; choose another name")
    if path.exists() and not request.overwrite:
        raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    """Whole or not at all."""
    try:
        with whole_file(path, suffix=path.suffix) as part:
            Image.fromarray(picture).save(part)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
