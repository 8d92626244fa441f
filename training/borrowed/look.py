"""What came out, on unseen people: lips, sharpness, colours, jitter; and contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.vae import decode
from training.borrowed.footage import Footage
from training.borrowed.pictures import to_unit
from training.borrowed.sharpness import fine_energy
from training.borrowed.told import roll_out
from training.judge import trained


class Scores:
    """Measures of a model on the unseen clips of ``footage``; ``frames`` are their true pictures."""

    def __init__(self, footage: Footage, frames: list[Tensor], clips: int) -> None:
        self.footage, self.clips = footage, clips
        count = clips * footage.config.frames
        fits = [index for index, frame in enumerate(frames) if len(frame) >= count]
        self.chosen = torch.tensor(fits, device=footage.device)
        self.truth = [frames[index][:count] for index in fits]
        self.judge = trained().to(footage.device)

    @torch.no_grad()
    def of(self, model: EmoModel, how: tuple[str, int, float]) -> dict[str, float]:
        """``lips``: correlation of the mouth's opening, read by the judge; ``fine``: fine energy, made over true;
        ``colour``: distance of mean colours, of 255; ``jitter``: change across the borders of clips over change
        inside; ``identity``: share of people whose portrait is nearest to their own video."""
        latents = roll_out(model, self.footage, self.chosen, self.clips, how)
        lips, fine, colour, changes, faces, portraits = [], [], [], [], [], []
        for made, truth in zip(latents, self.truth, strict=True):
            pixels, true = decode(model.vae, made).clamp(-1, 1), to_unit(truth)
            read, seen = self._read(pixels)
            lips.append(torch.corrcoef(torch.stack([read, self._read(true)[0]]))[0, 1])
            fine.append(fine_energy(pixels, true))
            colour.append(float(127.5 * (pixels - true).mean(dim=(0, 2, 3)).abs().mean()))
            changes.append(pixels.diff(dim=0).abs().mean(dim=(1, 2, 3)))
            faces.append(seen.mean(0))
            portraits.append(self._read(true[:1])[1][0])
        f = self.footage.config.frames
        change = torch.stack(changes).mean(0)
        border = torch.arange(len(change), device=change.device) % f == f - 1
        near = torch.cdist(torch.stack(portraits), torch.stack(faces)).argmin(1)
        own = (near == torch.arange(len(near), device=near.device)).float().mean()
        return {
            "lips": float(torch.stack(lips).nan_to_num().mean()),
            "fine": float(np.mean(fine)),
            "colour": float(np.mean(colour)),
            "jitter": float(change[border].mean() / change[~border].mean()),
            "identity": float(own),
        }

    def _read(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mouth openings (T,) and mean colours of an 8 × 8 grid (T, 192), which tell people apart."""
        small = F.interpolate(pixels, size=(128, 128), mode="area")
        return self.judge(small)[0][:, 0], F.adaptive_avg_pool2d(pixels, 8).flatten(1)

    @torch.no_grad()
    def sheet(self, model: EmoModel, ways: dict[str, tuple[str, int, float]], path: Path, people: int = 4) -> None:
        """A row of the truth and one of each way to denoise, per person; every ninth frame, full size."""
        rows = []
        for person in range(min(people, len(self.chosen))):
            chosen = self.chosen[person : person + 1]
            strips = [self.truth[person][::9]]
            for how in ways.values():
                latents = roll_out(model, self.footage, chosen, self.clips, how)[0, ::9]
                strips.append(
                    ((decode(model.vae, latents).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
                )
            rows += [np.concatenate(list(strip[:8].cpu().numpy()), axis=1) for strip in strips]
        Image.fromarray(np.concatenate(rows)).save(path)
