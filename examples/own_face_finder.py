"""A face detector of your own in front of ``prepare``.

    python examples/own_face_finder.py portrait.png speech.wav -o talking.mp4

This one knows nothing of faces: it takes the region whose colours are nearest to skin. It stands for the detector that
your product has already. What it must give are boxes from the upper forehead to the chin and from cheek to cheek.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from emo_rt import Animator, Box

SKIN = np.array([224.0, 172.0, 140.0])
"""A colour of skin, RGB."""


class NearestToSkin:
    """A :class:`emo_rt.FaceDetector`."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Box]:
        """The middle half of the pixels that are nearest to the colour of skin. ``picture``: (H, W, 3) uint8 RGB."""
        distance = np.abs(picture - SKIN).sum(axis=2)
        rows, columns = np.nonzero(distance <= np.quantile(distance, 0.2))
        top, bottom = np.quantile(rows, [0.25, 0.75])
        left, right = np.quantile(columns, [0.25, 0.75])
        return [Box(int(left), int(top), int(right) + 1, int(bottom) + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("voice")
    parser.add_argument("-o", "--out", default="talking.mp4")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--preset")
    arguments = parser.parse_args()
    with Animator.load(arguments.bundle) as animator:
        avatar = animator.prepare(arguments.picture, detector=NearestToSkin())
        print(f"the face is said to be at {avatar.portrait.face}")
        animator.animate(avatar, arguments.voice, preset=arguments.preset).save(arguments.out)
        print(arguments.out)


if __name__ == "__main__":
    main()
