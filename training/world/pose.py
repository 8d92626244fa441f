"""The state of one drawn head in one frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pose:
    """Everything that may move between two frames of a clip. "Right" is the image's right, not the person's."""

    yaw: float = 0.0
    """Turn to the image's right, radians, about -0.5 to 0.5."""
    pitch: float = 0.0
    """Look up, radians, about -0.35 to 0.35."""
    roll: float = 0.0
    """Tilt clockwise, radians, about -0.35 to 0.35."""
    x: float = 0.0
    """Shift to the right, in half head widths (about 0.26 of the image), -0.4 to 0.4."""
    y: float = 0.0
    """Shift down, same unit, about -0.15 to 0.15."""
    gaze_x: float = 0.0
    """Pupils to the right, -1 to 1."""
    gaze_y: float = 0.0
    """Pupils down, -1 to 1."""
    blink_left: float = 0.0
    """Lid of the eye on the image's left: 0 open, 1 shut."""
    blink_right: float = 0.0
    """Lid of the eye on the image's right: 0 open, 1 shut."""
    brow: float = 0.0
    """Brows: -1 lowered, 0 at rest, 1 raised."""
    opening: float = 0.0
    """Jaw: 0 shut, 1 wide open."""
    width: float = 0.5
    """Mouth corners: 0 drawn in, 0.5 at rest, 1 spread."""
    rounding: float = 0.0
    """Lips: 0 relaxed, 1 a tight round "oo"."""
    press: float = 0.0
    """Lips pressed together, as in m, b, p: 0 to 1. It closes whatever the jaw opens."""
    smile: float = 0.0
    """Corners: -1 down, 1 up."""

    @property
    def lip_gap(self) -> float:
        """Distance between the inner lips that can be seen, 0 to 1: the jaw's opening less what the press closes."""
        return max(0.0, self.opening) * (1.0 - min(1.0, max(0.0, self.press)))
