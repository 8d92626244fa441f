"""Pictures in the device's memory, loaded by a thread while the corpus is still being drawn."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from training.corpus import Recording, available, clip_path


class Pictures:
    """Frames of a folder, (count, size, size, 3) uint8 on the device."""

    def __init__(self, folder: Path, size: int, device: str, capacity: int, stride: int = 3) -> None:
        self._folder, self._stride = folder, stride
        self._frames = torch.empty((capacity, size, size, 3), dtype=torch.uint8, device=device)
        self.count = 0
        self._seen: set[int] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def draw(self, batch: int, side: int) -> Tensor:
        """(batch, 3, side, side) in −1 … 1: whole pictures, or pieces of them, half of them mirrored."""
        frames, size = self._frames, self._frames.shape[1]
        rows = torch.randint(self.count, (batch,), device=frames.device)
        if side < size:
            corner = (size - side) * torch.rand(2, batch, 2, device=frames.device).mean(0)  # more often near the middle
            inside = torch.arange(side, device=frames.device)
            top, left = (corner.long()[:, axis, None] + inside for axis in (0, 1))
            picked = frames[rows[:, None, None], top[:, :, None], left[:, None, :]]
        else:
            picked = frames[rows]
        pixels = to_unit(picked)
        mirrored = torch.rand(batch, 1, 1, 1, device=frames.device) < 0.5
        return torch.where(mirrored, pixels.flip(-1), pixels)

    def close(self) -> None:
        """Stop loading and free the memory."""
        self._stopped.set()
        self._thread.join()
        del self._frames

    def _follow(self) -> None:
        while not self._stopped.is_set() and self.count < len(self._frames):
            new = [seed for seed in available(self._folder) if seed not in self._seen] if self._folder.exists() else []
            for seed in new[:50]:
                if self._stopped.is_set():
                    return
                self._take(seed)
            if not new:
                time.sleep(0.3)

    def _take(self, seed: int) -> None:
        self._seen.add(seed)
        try:
            frames = Recording.load(clip_path(self._folder, seed), ("frames",)).frames[
                seed % self._stride :: self._stride
            ]
        except (OSError, ValueError, zipfile.BadZipFile):
            return
        room = min(len(frames), len(self._frames) - self.count)
        self._frames[self.count : self.count + room] = torch.from_numpy(frames[:room].copy()).to(self._frames.device)
        if self._frames.is_cuda:
            torch.cuda.current_stream().synchronize()
        self.count += room


def to_unit(frames: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in −1 … 1, channels last in memory."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1
