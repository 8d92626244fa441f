"""Draws one frame, and says what is true in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import skia
from numpy.typing import NDArray

from training.world.backdrop import draw_backdrop
from training.world.beard import draw_beard, draw_moustache
from training.world.brush import Brush
from training.world.clothes import draw_clothes
from training.world.eyes import draw_brows, draw_eyes, draw_glasses, draw_glasses_arms
from training.world.geometry import BODY_RISE, HeadFrame
from training.world.hair import draw_back_hair, draw_hair
from training.world.head import draw_ears, draw_neck, draw_nose, draw_skin
from training.world.identity import KEPT_OUT, Identity
from training.world.mouth import draw_mouth, mouth_curves
from training.world.pose import Pose
from training.world.styles import print_inks

STAGE_UNIT = 0.256
"""One stage unit (half a head width) as a share of the image's side."""
ORIGIN = (0.5, 0.505)
"""Where a resting head's origin lies in the image, as shares of its side."""


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What is true in one frame. Pixels have their origin at the image's top left corner."""

    opening: float
    """Visible lip gap, 0 shut to 1 wide open."""
    width: float
    """Mouth width over this mouth's width at rest; 1 at rest."""
    opening_px: float
    """Lip gap at the middle of the mouth, pixels."""
    width_px: float
    """From corner to corner, pixels."""
    face_box: tuple[float, float, float, float]
    """Head from crown to chin, without hair and ears: left, top, right, bottom, pixels."""
    yaw: float
    """Radians, as are pitch and roll; signs as in `Pose`."""
    pitch: float
    roll: float


def render(identity: Identity, pose: Pose, size: int) -> NDArray[np.uint8]:
    """One anti-aliased frame: (size, size, 3) uint8 RGB."""
    pixels = _backdrop_pixels(identity, size).copy()
    canvas = _canvas(pixels)
    scale = _scale(identity, size)
    canvas.translate(ORIGIN[0] * size, ORIGIN[1] * size)
    canvas.scale(scale, scale)
    _draw_person(Brush(canvas, identity.ink, identity.ink_width), identity, pose)
    if identity.style == KEPT_OUT:
        return _printed(pixels, identity)
    picture = np.empty((size, size, 3), np.uint8)
    for channel in range(3):  # three times as fast as one strided copy
        picture[:, :, channel] = pixels[:, :, channel]
    return picture


def _printed(pixels: NDArray[np.uint8], identity: Identity) -> NDArray[np.uint8]:
    """Two inks on paper: dark, light and nothing, by the picture's lightness."""
    lightness = pixels[:, :, :3] @ np.array([77, 150, 29], np.uint16) >> 8
    inks = np.array(print_inks(identity), np.float64)
    levels = np.arange(256)[:, None]
    table = np.concatenate([np.interp(levels, (30, 130, 225), inks[:, channel]) for channel in range(3)], axis=1)
    printed: NDArray[np.uint8] = table.round().astype(np.uint8)[lightness]
    return printed


def _draw_person(brush: Brush, identity: Identity, pose: Pose) -> None:
    """All layers from back to front."""
    frame = HeadFrame(identity.face, pose)
    draw_back_hair(brush, frame, identity)
    draw_neck(brush, frame, identity)
    _draw_body(brush, frame, identity)
    draw_ears(brush, frame, identity)
    draw_skin(brush, frame, identity)
    draw_beard(brush, frame, identity)
    with brush.clip(frame.outline):
        draw_eyes(brush, frame, identity)
        draw_brows(brush, frame, identity)
    draw_mouth(brush, frame, identity)
    draw_nose(brush, frame, identity)
    draw_moustache(brush, frame, identity)
    draw_glasses_arms(brush, frame, identity)
    draw_hair(brush, frame, identity)
    draw_glasses(brush, frame, identity)


def _draw_body(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Clothes are recorded once per person and replayed: they only shift."""
    brush.canvas.save()
    brush.canvas.translate(frame.shoulders[0], frame.shoulders[1] - BODY_RISE)
    brush.canvas.drawPicture(_clothes_picture(identity))
    brush.canvas.restore()


@lru_cache(maxsize=64)
def _clothes_picture(identity: Identity) -> skia.Picture:
    recorder = skia.PictureRecorder()
    canvas = recorder.beginRecording(skia.Rect.MakeLTRB(-4, -4, 4, 4))
    draw_clothes(Brush(canvas, identity.ink, identity.ink_width), identity)
    return recorder.finishRecordingAsPicture()


def ground_truth(identity: Identity, pose: Pose, size: int) -> GroundTruth:
    """Measurements of the frame that `render` draws with the same arguments."""
    frame = HeadFrame(identity.face, pose)
    curves = mouth_curves(identity, pose)
    rest = mouth_curves(identity, replace(pose, opening=0.0, width=0.5, rounding=0.0, press=0.0, smile=0.0))
    scale = _scale(identity, size)
    middle = frame.surface([(0, curves.top), (0, curves.bottom)])
    y = identity.face.mouth_y
    corners = frame.surface([(-curves.half_width, y), (curves.half_width, y)])
    box = np.concatenate([frame.outline.min(axis=0), frame.outline.max(axis=0)]) * scale
    box = box + np.array(ORIGIN * 2) * size
    return GroundTruth(
        opening=pose.lip_gap,
        width=curves.half_width / rest.half_width,
        opening_px=float(np.linalg.norm(middle[1] - middle[0])) * scale,
        width_px=float(np.linalg.norm(corners[1] - corners[0])) * scale,
        face_box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        yaw=pose.yaw,
        pitch=pose.pitch,
        roll=pose.roll,
    )


def _scale(identity: Identity, size: int) -> float:
    """Pixels in one stage unit."""
    return stage_unit(identity) * size


def stage_unit(identity: Identity) -> float:
    """Half a head width of this person, as a share of the image's side."""
    return STAGE_UNIT * identity.face.scale


def _canvas(pixels: NDArray[np.uint8]) -> skia.Canvas:
    surface = skia.Surface(pixels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    return surface.getCanvas()


@lru_cache(maxsize=64)
def _backdrop_pixels(identity: Identity, size: int) -> NDArray[np.uint8]:
    """The still background: (size, size, 4) uint8. Not to be written to."""
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    canvas = _canvas(pixels)
    canvas.translate(size / 2, size / 2)
    canvas.scale(STAGE_UNIT * size, STAGE_UNIT * size)
    draw_backdrop(Brush(canvas, identity.ink, 0.0), identity.backdrop, identity.shading == "soft")
    pixels.flags.writeable = False
    return pixels
