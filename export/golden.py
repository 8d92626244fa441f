"""Our graphs against what the original code computed: `python -m emo_rt.export.parity GOLDEN_DIR`.

The folder's clips are run from the stored noise, each from the end of our own clip before, and every stored number is
held against ours. Exit status: 0 within the bounds, 1 past one, 2 the folder or the command line is unusable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from emo_rt.device.buffers import Buffers
from emo_rt.device.registry import open_backend
from emo_rt.errors import EmoRtError
from emo_rt.export.checkpoints.echomimic import is_echomimic
from emo_rt.export.checkpoints.golden_folder import Golden, read_golden
from emo_rt.export.checkpoints.hallo import original_name
from emo_rt.export.checkpoints.tensors import refuse_half_overflow
from emo_rt.export.golden_echomimic import check_echomimic
from emo_rt.export.golden_rows import BOUNDS, Bounds, Row, Rows, format_rows, summary
from emo_rt.export.graph_modules import GraphModule, clamp_unit, graph_modules, run_by_name
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.attention import project
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array, sites
from emo_rt.model.options import AnimateOptions
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.scheduler import drive
from emo_rt.runtime.worker import Worker

PASSED, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes."""

AfterStep = Callable[[int, Array, Array], None]
"""Gets a step's index, the latents that it took, (F, 4, S, S), and its prediction, (halves, F, 4, S, S)."""


class Runner(Protocol):
    """The model's graphs, in the order in which a video needs them. Arrays in, arrays out."""

    bytes_out: bool
    """Whether frames went through uint8."""

    def hear(self, waveform: Array) -> Array:
        """(samples,) → (video frames, layers, hidden)."""
        ...

    def encode(self, pixels: Array) -> Array:
        """(1, 3, size, size) in −1 … 1 → (1, 4, S, S)."""
        ...

    def see(self, pixels: Array, inputs: dict[str, Array]) -> Callable[[str], Array]:
        """Portrait pixels and the other inputs by name → what ``reference`` gave, by name."""
        ...

    def begin(self, motion_latents: Array, windows: Array) -> Callable[[str], Array]:
        """Motion latents and audio windows of a clip → what ``clip`` gave, by name."""
        ...

    def denoise(self, noise: Array, after_step: AfterStep) -> None:
        """All steps of the clip."""
        ...

    def finish(self) -> tuple[Array, Array]:
        """Frames (F, 3, size, size) in 0 … 1 and the next clip's motion latents."""
        ...


class TorchRunner:
    """The graphs as torch modules."""

    bytes_out = False

    def __init__(self, golden: Golden) -> None:
        self.golden, config = golden, golden.config
        modules = graph_modules(golden.model, (golden.guided,))
        self.modules: dict[str, GraphModule] = {module.spec.name: module for module in modules}
        self.table = solver_table(config.schedule, "ddim", golden.steps)
        self.tensors: dict[str, Array] = {
            "motion_scale": np.array(golden.motion_scale, np.float32),
            "guidance_scale": np.array([golden.guidance], np.float32),
        }

    def hear(self, waveform: Array) -> Array:
        return self._run("audio_encoder", waveform=waveform[None])["audio_hidden"]

    def encode(self, pixels: Array) -> Array:
        return self._run("vae_encoder", pixels=pixels)["portrait_latent"]

    def see(self, pixels: Array, inputs: dict[str, Array]) -> Callable[[str], Array]:
        encoded = self._run("vae_encoder", pixels=pixels)
        return {**encoded, **self._run("reference", **inputs)}.__getitem__

    def begin(self, motion_latents: Array, windows: Array) -> Callable[[str], Array]:
        return self._run("clip", motion_latents=motion_latents, audio_windows=windows).__getitem__

    def denoise(self, noise: Array, after_step: AfterStep) -> None:
        state = {"latents": noise, "x0_history": np.zeros((2, *noise.shape), np.float32)}
        for step in range(self.golden.steps):
            self._run("timestep", timestep=self.table.timesteps[step : step + 1])
            name = "step" if self.golden.guided else "step_unguided"
            given = self._run(name, **state, coefficients=self.table.coefficients[step])
            after_step(step, state["latents"], given["prediction"])
            state = {key: given[f"next_{key}"] for key in state}
        self.tensors["latents"] = state["latents"]

    def finish(self) -> tuple[Array, Array]:
        latents, model = self.tensors["latents"], self.golden.model
        with torch.no_grad():
            pictures = [
                vae_network.decode(model.vae, torch.from_numpy(one).to(model.dtype)) for one in latents[:, None]
            ]
        frames = clamp_unit(torch.cat(pictures).float()).numpy()
        last = latents[-self.golden.config.motion_frames :]
        return frames, self._run("motion_encoder", last_latents=last)["motion_latents"]

    def _run(self, name: str, **inputs: Array) -> dict[str, Array]:
        return run_by_name(self.modules[name], self.tensors, inputs)


class WorkerRunner:
    """The exported bundle in the runtime's own worker."""

    bytes_out = True

    def __init__(self, golden: Golden, loaded: LoadedModel) -> None:
        self.golden, self.loaded = golden, loaded
        options = AnimateOptions(steps=golden.steps, guidance=golden.guidance if golden.guided else 1.0)
        self.table, self.guidance = loaded.step_table(options)
        self._last = ExitStack()
        self.worker: Worker

    def hear(self, waveform: Array) -> Array:
        with closing(Hearing(self.loaded.backend, self.loaded.serving("audio_encoder"), self.golden.config)) as hearing:
            return hearing(waveform)

    def encode(self, pixels: Array) -> Array:
        encoder = self.loaded.graph("vae_encoder")
        buffers = Buffers(self.loaded.backend, [*encoder.spec.inputs, *encoder.spec.outputs])
        buffers["pixels"].write(pixels)
        encoder.bind(buffers).run()
        return buffers["portrait_latent"].read()

    def see(self, pixels: Array, inputs: dict[str, Array]) -> Callable[[str], Array]:
        self._last.close()
        self.portrait = drive(self.loaded.portrait_features(pixels, inputs))
        self.worker = self._last.enter_context(closing(Worker(self.loaded, self.table, self.portrait)))
        self.worker.load(self.portrait, {"speed": 0.0, "motion_scale": self.golden.motion_scale})
        self.slot = self.worker.take_slot()
        return lambda name: self.portrait[name].read()

    def begin(self, motion_latents: Array, windows: Array) -> Callable[[str], Array]:
        self.motion = self.worker.buffer("motion_latents")
        self.motion.write(motion_latents)
        self.worker.begin_clip(windows, self.motion, self.slot)
        return lambda name: self.worker.buffer(name).read()

    def denoise(self, noise: Array, after_step: AfterStep) -> None:
        denoiser, taken = self.worker.denoiser, noise
        for made in self.worker.denoise(self.table, noise, self.guidance, self.slot):
            made.done.synchronize()
            after_step(made.steps - 1, taken, denoiser.prediction(self.table.graphs[0]).read().copy())
            taken = denoiser.latents.read().copy()
        self.worker.carry(self.slot, self.motion)

    def finish(self) -> tuple[Array, Array]:
        pictures = np.concatenate(list(self.worker.decode(self.slot, self.golden.config.frames)))
        pixels = pictures.transpose(0, 3, 1, 2)
        return pixels.astype(np.float32) / 255, self.motion.read().copy()


class Comparison:
    """Runs all clips and collects the rows."""

    def __init__(self, golden: Golden, runner: Runner, bounds: Bounds) -> None:
        self.golden, self.runner, self.bounds = golden, runner, bounds
        self.rows = Rows(bounds)

    def run(self) -> list[Row]:
        """Every row, in the order of computation."""
        golden, runner, stored = self.golden, self.runner, self.golden.tensors
        hidden = runner.hear(stored["in.wave"][0])
        self.rows.add("audio hidden states", hidden, stored["audio.hidden"], self.bounds.hidden)
        inputs = {"face_mask": stored["in.region"][None], "face_embedding": stored["in.face_emb"], **golden.masks()}
        portrait = runner.see(stored["in.source"][None], inputs)
        motion = np.repeat(portrait("portrait_latent"), golden.config.motion_frames, axis=0)
        for clip in range(golden.clips):
            motion = self._clip(clip, motion, hidden, portrait)
        return self.rows.found

    def _clip(self, clip: int, motion: Array, hidden: Array, portrait: Callable[[str], Array]) -> Array:
        """One clip; gives the next one's motion latents."""
        stored, bounds = self.golden.tensors, self.bounds
        pictures = stored[f"clip{clip}.ref_pixels"][0]
        self.rows.add(f"clip {clip} portrait pixels", stored["in.source"], pictures[0], bounds.tokens)
        encoded = np.concatenate([self.runner.encode(picture[None]).copy() for picture in pictures[1:]])
        self.rows.add(f"clip {clip} motion latents", motion, encoded, bounds.tokens)
        given = self.runner.begin(motion, _windows(self.golden, hidden, clip))
        self.rows.add(
            f"clip {clip} audio tokens", given("audio_tokens"), stored[f"clip{clip}.audio_tokens"][0], bounds.tokens
        )
        self._add_reference(clip, portrait, given)
        noise = self.golden.latents(f"clip{clip}.noise")[0]

        def after_step(step: int, latents: Array, prediction: Array) -> None:
            name = f"clip{clip}.step{step}"
            row = f"clip {clip} step {step}"
            self.rows.add(f"{row} latents", latents, self.golden.latents(f"{name}.latents")[0], bounds.latents)
            halves = ("unconditional", "conditional")[-len(prediction) :]
            wanted = self.golden.latents(f"{name}.pred")
            for half, ours, theirs in zip(halves, prediction, wanted, strict=True):
                self.rows.add(f"{row} {half}", ours, theirs, bounds.prediction)

        self.runner.denoise(noise, after_step)
        frames, motion = self.runner.finish()
        self.rows.add_frames(f"clip {clip} frames", frames, self.golden.frames(clip), self.runner.bytes_out)
        return motion

    @torch.no_grad()
    def _add_reference(self, clip: int, portrait: Callable[[str], Array], given: Callable[[str], Array]) -> None:
        """Where the ReferenceNet's features are stored: they, as the Backbone projects them, against ours."""
        golden, model = self.golden, self.golden.model
        period = 1 + golden.config.motion_frames
        blocks = dict(model.blocks())
        for site in sites(golden.config.unet):
            stored = golden.tensors.get(f"clip{clip}.reference.{site.name}")
            if stored is None:
                continue
            features = torch.from_numpy(stored).to(model.dtype)
            projected = project(blocks[site].reference_attention(), features[::period])
            for kind, wanted in zip(("key", "value"), projected, strict=True):
                name = f"reference_{kind}.{site.name}"
                self.rows.add(f"clip {clip} {name}", portrait(name), wanted.float().numpy(), self.bounds.tokens)
            side = golden.config.latent_size >> site.level
            maps = features.transpose(1, 2).reshape(*features.shape[::2], side, side)
            for half in range(1 + golden.guided):
                kind = "motion_unconditional" if golden.guided and half == 0 else "motion"
                rows = maps[half * period + 1 : (half + 1) * period]
                wanted = model.temporal(site).motion_tokens(rows)
                name = f"{kind}.{site.name}"
                self.rows.add(f"clip {clip} {name}", given(name), wanted.float().numpy(), self.bounds.tokens)


def _windows(golden: Golden, hidden: Array, clip: int) -> Array:
    """Each frame's hidden states with those of its neighbours, the ends repeated: (F, 2m+1, layers, hidden)."""
    frames, reach = golden.config.frames, golden.config.audio.context_frames
    centres = np.arange(clip * frames, (clip + 1) * frames)
    windows: Array = hidden[(centres[:, None] + np.arange(-reach, reach + 1)).clip(0, len(hidden) - 1)]
    return windows


def check_golden(folder: Path, backend: str = "torch", dtype: str = "fp32") -> list[Row]:
    """Import the checkpoint of a golden folder, run its clips and compare. Every row, passed or not. The folder tells
    whose checkpoint it is.

    ``backend``: ``torch`` or ``onnxruntime``; ``dtype``: ``fp32`` or ``fp16``, a key of :data:`BOUNDS`.
    Raises :class:`CheckpointError` or :class:`ConfigError` when the folder cannot be used, and what exporting and
    running raise.
    """
    if is_echomimic(folder):
        with np.errstate(over="ignore", invalid="ignore"):
            return check_echomimic(folder, backend, dtype)
    golden = read_golden(folder)
    if dtype == "fp16":
        refuse_half_overflow(golden.model, original_name)
    with _runner(golden, backend, dtype) as runner, np.errstate(over="ignore", invalid="ignore"):
        return Comparison(golden, runner, BOUNDS[dtype]).run()


@contextmanager
def _runner(golden: Golden, backend: str, dtype: str) -> Iterator[Runner]:
    if backend == "torch":
        golden.model.to(torch.float16 if dtype == "fp16" else torch.float32)
        yield TorchRunner(golden)
        return
    with tempfile.TemporaryDirectory(prefix="emo-rt-golden-") as scratch:
        options = ExportOptions(
            dtype="float16" if dtype == "fp16" else "float32",
            guidance=(golden.guided,),
            check=False,
            source="golden folder",
            licence="that of the golden folder",
        )
        bundle: Bundle = export_bundle(golden.model, Path(scratch) / "bundle", options)
        with LoadedModel(bundle, open_backend(backend, "cpu")) as loaded:
            yield WorkerRunner(golden, loaded)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of a golden folder. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m emo_rt.export.parity",
        description="Hold our graphs against the numbers of the original code in a golden folder.",
        epilog="exit status: 0 within the bounds, 1 past one of them, 2 the folder cannot be used",
    )
    parser.add_argument("folder", metavar="GOLDEN_DIR", type=Path, help="checkpoint, config.json, vectors.safetensors")
    parser.add_argument("--backend", choices=("torch", "onnxruntime"), default="torch", help="default: %(default)s")
    parser.add_argument("--dtype", choices=tuple(BOUNDS), default="fp32", help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        rows = check_golden(args.folder, args.backend, args.dtype)
    except EmoRtError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return UNUSABLE
    sys.stdout.write(f"{format_rows(rows)}\n{summary(rows)}\n")
    return PASSED if all(row.passed for row in rows) else FAILED
