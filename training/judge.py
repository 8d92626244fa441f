"""A judge of drawn faces: a small network that reads the lips, the head's turn and the face's place from a picture.

Quality is measured on generated pixels, so something has to read them. The judge learns from freshly drawn people in
random poses, where the truth is known, blurred and disturbed a little as generated pictures are. It never sees the
people of the test split. Its weights are small and belong to the checkout: ``training/judge.npz``.

``python -m training.judge`` trains it anew, in about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from training.autoencoder import to_pixels
from training.loop import Loop, Stage
from training.world import Identity, Pose, ground_truth, render
from training.world.casting import TRAIN_IDENTITIES

STAGE = Stage("judge", steps=5000, learning_rate=2e-3, warmup=200, ema=0.998, cooldown=0.6)
SIZE = 128
BATCH = 24
TARGETS = ("opening", "width", "yaw", "pitch", "roll", "face_x", "face_y")
SCALES = (0.3, 0.2, 0.25, 0.15, 0.15, 0.05, 0.05)
"""Typical sizes of the targets: each counts as much as the others. Face position in shares of the side."""
CENTRES = np.array((0.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5))
"""Usual values of the targets."""
WEIGHTS = Path(__file__).parent / "judge.npz"
"""Half-precision weights of a finished training."""


class Judge(nn.Module):
    """(B, 3, 128, 128) in −1 … 1 → (B, targets) in units of :data:`SCALES`, and features (B, 96)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 48, 64, 64)
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.hidden = nn.Linear(64 * 4 * 4, 96)
        self.told = nn.Linear(96, len(TARGETS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Convolutions of stride 2 with ReLU, then two linear layers."""
        for conv in self.convs:
            pixels = functional.relu(conv(pixels))
        features = functional.relu(self.hidden(pixels.flatten(1)))
        return self.told(features), features


def trained() -> Judge:
    """The judge with its committed weights."""
    judge = Judge().eval()
    with np.load(WEIGHTS) as stored:
        judge.load_state_dict({key: torch.from_numpy(stored[key]).float() for key in stored.files})
    return judge


def random_pose(rng: np.random.Generator) -> Pose:
    """Any pose that clips show: about a third with shut lips."""
    opening = 0.0 if rng.random() < 0.3 else float(rng.beta(1.2, 1.6))
    lids = float(rng.random() < 0.1) * float(rng.random())
    yaw, pitch, roll = (float(v) for v in rng.normal(0, (0.2, 0.1, 0.1)).clip(-0.45, 0.45))
    return Pose(
        yaw=yaw, pitch=pitch, roll=roll, x=float(rng.normal(0, 0.06)), y=float(rng.normal(0, 0.05)),
        gaze_x=float(rng.normal(0, 0.4)), gaze_y=float(rng.normal(0, 0.3)), blink_left=lids, blink_right=lids,
        brow=float(rng.uniform(-1, 1)), opening=opening, width=float(rng.uniform(0.15, 0.9)),
        rounding=float(rng.random() * (rng.random() < 0.5)), press=float(rng.random() < 0.15),
        smile=float(rng.uniform(0, 0.8)),
    )  # fmt: skip


def example(rng: np.random.Generator, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A disturbed picture (128, 128, 3) uint8 and its truth (targets,) in units of the scales."""
    identity, pose = Identity.sample(first + int(rng.integers(TRAIN_IDENTITIES))), random_pose(rng)
    truth = ground_truth(identity, pose, 1)
    left, top, right, bottom = truth.face_box
    values = (truth.opening, truth.width, pose.yaw, pose.pitch, pose.roll, (left + right) / 2, (top + bottom) / 2)
    picture = render(identity, pose, SIZE).astype(np.float32)
    if rng.random() < 0.6:
        picture = gaussian_filter(picture, (blur := rng.uniform(0.2, 1.1), blur, 0))
    picture += rng.normal(0, rng.uniform(0, 6), picture.shape)
    return picture.clip(0, 255).astype(np.uint8), (np.array(values) - CENTRES) / SCALES


class Pool:
    """Pictures that are drawn once and seen a few times: drawing takes longer than learning."""

    def __init__(self, size: int = 6000) -> None:
        self._size, self._kept = size, list[tuple[np.ndarray, np.ndarray]]()

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A third of the batch is new."""
        while len(self._kept) < 4 * BATCH:
            self._kept.append(example(rng))
        for _ in range(BATCH // 3):
            new = example(rng)
            if len(self._kept) < self._size:
                self._kept.append(new)
            else:
                self._kept[int(rng.integers(self._size))] = new
        rows = [self._kept[int(i)] for i in rng.integers(len(self._kept), size=BATCH)]
        pictures = to_pixels(np.stack([picture for picture, _ in rows]))
        return pictures, torch.from_numpy(np.stack([truth for _, truth in rows])).float()


def train(folder: Path, output: Path) -> None:
    """Train, test on people of the test split, write the weights."""
    torch.manual_seed(0)
    judge, pool = Judge(), Pool()
    loop = Loop(STAGE, folder, judge, list(judge.parameters()))

    def loss(rng: np.random.Generator) -> dict[str, Tensor]:
        pictures, truth = pool.batch(rng)
        error = functional.smooth_l1_loss(judge(pictures)[0], truth, reduction="none").mean(dim=0)
        return {"total": error.mean() + error[0], "opening": error[0], "turn": error[2:5].mean()}

    loop.run(loss)
    loop.use_average()
    np.savez_compressed(output, **{key: value.half().numpy() for key, value in judge.state_dict().items()})
    for name, correlation in correlations(judge):
        sys.stdout.write(f"{name}: correlation with the truth on unseen people {correlation:.3f}\n")


@torch.no_grad()
def correlations(judge: Judge, count: int = 600) -> Iterator[tuple[str, float]]:
    """How well each target is read from people of the test split."""
    rng = np.random.default_rng(5)
    rows = [example(rng, TRAIN_IDENTITIES) for _ in range(count)]
    told = judge(to_pixels(np.stack([picture for picture, _ in rows])))[0].numpy()
    truth = np.stack([values for _, values in rows])
    for index, name in enumerate(TARGETS):
        yield name, float(np.corrcoef(told[:, index], truth[:, index])[0, 1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"))
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train(given.folder, given.output)


if __name__ == "__main__":
    main()
