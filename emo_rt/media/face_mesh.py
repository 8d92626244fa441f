"""Google's face mesh: which landmarks lie on which line of the face, in the order in which the line passes them."""

from __future__ import annotations

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The silhouette, clockwise in the picture from the middle of the forehead."""
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""Outer contour of the lips, from the person's right corner over the upper lip."""
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Inner contour of the lips: the opening of the mouth."""
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
"""Edge of the person's right eye, from its outer corner over the upper lid."""
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
"""Edge of the person's left eye, from its outer corner over the upper lid."""
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
"""Edge of the person's right eyebrow."""
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
"""Edge of the person's left eyebrow."""
RIGHT_IRIS = (469, 470, 471, 472)
"""Edge of the person's right iris; its middle is 468."""
LEFT_IRIS = (474, 475, 476, 477)
"""Edge of the person's left iris; its middle is 473."""

RINGS = (FACE_OVAL, OUTER_LIPS, INNER_LIPS, RIGHT_EYE, LEFT_EYE, RIGHT_BROW, LEFT_BROW, RIGHT_IRIS, LEFT_IRIS)
"""All of them: each is closed."""
