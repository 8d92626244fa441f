"""EchoMimic's graphs against what the original code computed: the runs of a golden folder, each from its own noise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from emo_rt.device.buffers import Buffers
from emo_rt.device.registry import open_backend
from emo_rt.export.checkpoints.echomimic import original_name
from emo_rt.export.checkpoints.echomimic_folder import EchoMimicGolden, Run, read_echomimic_golden, site_names
from emo_rt.export.checkpoints.tensors import refuse_half_overflow
from emo_rt.export.golden_rows import BOUNDS, Bounds, Row, Rows
from emo_rt.export.graph_modules import GraphModule, clamp_unit, graph_modules, run_by_name
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.attention import project
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.onnx_export import ExportOptions, VariantSource, export_bundle
from emo_rt.media.log_mel import log_mel, mel_filters
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import WhisperConfig
from emo_rt.model.contract import Array
from emo_rt.model.families.base import ClipState, Plan
from emo_rt.model.families.echomimic import ACCELERATED, FAST, EchoMimic, offers
from emo_rt.model.options import AnimateOptions
from emo_rt.model.solvers import alphas_cumprod, solver_table
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.scheduler import drive
from emo_rt.runtime.video_worker import VideoWorker
from emo_rt.runtime.window_denoiser import frame_weights
from emo_rt.runtime.worker_pool import state_tensors

AfterWindow = Callable[[int, int, Array], None]
"""Gets step, window and prediction (halves, F, 4, S, S)."""
BeforeStep = Callable[[int, Array], None]
"""Gets step and latents (frames, 4, S, S)."""
WHOLE = 1e-9
"""Bound of whole numbers: timesteps, windows."""


class Runner(Protocol):
    """The graphs of one run, in the order in which a video needs them."""

    bytes_out: bool
    """Whether frames went through uint8."""

    def hear(self, waveform: Array) -> Array:
        """(samples,) → (rows, states, hidden)."""
        ...

    def see(self, pixels: Array, face_mask: Array) -> Callable[[str], Array]:
        """Portrait and mask → what their graphs gave, by tensor name."""
        ...

    def denoise(self, noise: Array, tokens: Array, before: BeforeStep, after: AfterWindow) -> Array:
        """Clamped noise (frames, 4, S, S), audio rows (frames, rows, states, hidden) → latents."""
        ...

    def decode(self, latents: Array) -> Array:
        """→ frames (frames, 3, size, size) in 0 … 1."""
        ...


class TorchRunner:
    """The graphs as torch modules, windows in a loop of its own."""

    bytes_out = False

    def __init__(self, model: EmoModel, run: Run, plan: Plan) -> None:
        self.model, self.run, self.plan = model, run, plan
        modules = graph_modules(model, (run.guided,))
        self.modules: dict[str, GraphModule] = {module.spec.role: module for module in modules}
        self.table = solver_table(model.config.schedule, "ddim", run.steps)
        self.tensors: dict[str, Array] = {"guidance_scale": np.array([run.guidance], np.float32)}

    def hear(self, waveform: Array) -> Array:
        pieces = EchoMimic(self.model.config).heard(waveform)
        return np.concatenate([self._run("audio_encoder", mel=mel)["audio_hidden"][:rows] for mel, rows in pieces])

    def see(self, pixels: Array, face_mask: Array) -> Callable[[str], Array]:
        encoded = self._run("vae_encoder", pixels=pixels)
        return {**encoded, **self._run("reference", face_mask=face_mask)}.__getitem__

    def denoise(self, noise: Array, tokens: Array, before: BeforeStep, after: AfterWindow) -> Array:
        run, latents = self.run, noise
        heard = tokens.reshape(len(tokens), -1, tokens.shape[-1]).astype(str(self.model.dtype).removeprefix("torch."))
        for step in range(run.steps):
            before(step, latents)
            self._run_timestep(step)
            sums = np.zeros_like(latents)
            starts = [start + step * self.plan.shift for start in run.starts]
            for index, start in enumerate(starts):
                rows = np.arange(start, start + run.window) % run.frames
                given = self._run("step", latents=latents[rows], sums=sums[rows], audio_tokens=heard[rows])
                sums[rows] = given["next_sums"]
                after(step, index, given["prediction"])
            latents = self._update(latents, sums, frame_weights(starts, run.window, run.frames), step)
        return latents

    def decode(self, latents: Array) -> Array:
        with torch.no_grad():
            given = [torch.from_numpy(one).to(self.model.dtype) for one in latents[:, None]]
            pictures = torch.cat([vae_network.decode(self.model.vae, one) for one in given])
        return clamp_unit(pictures.float()).numpy()

    def _run_timestep(self, step: int) -> None:
        self._run("timestep", timestep=self.table.timesteps[step : step + 1])

    def _update(self, latents: Array, sums: Array, weights: Array, step: int) -> Array:
        """Block by block; the last one is filled up with its first frame."""
        blocks = []
        for first in range(0, self.run.frames, self.run.window):
            rows = np.arange(first, first + self.run.window)
            rows[rows >= self.run.frames] = first
            given = self._run("update", latents=latents[rows], sums=sums[rows], frame_weights=weights[rows],
                              coefficients=self.table.coefficients[step])  # fmt: skip
            blocks.append(given["next_latents"])
        return np.concatenate(blocks)[: self.run.frames]

    def _run(self, role: str, **inputs: Array) -> dict[str, Array]:
        return run_by_name(self.modules[role], self.tensors, inputs)


class WorkerRunner:
    """The exported bundle in the runtime's own worker."""

    bytes_out = True

    def __init__(self, loaded: LoadedModel, run: Run, plan: Plan) -> None:
        self.loaded, self.run, self.plan = loaded, run, plan
        guidance = run.guidance if run.guided else 1.0
        options = AnimateOptions(preset=_preset(loaded, run), steps=run.steps, guidance=guidance)
        self.table, self.guidance = loaded.step_table(options)
        self.variant = loaded.resolve(options).variant

    def hear(self, waveform: Array) -> Array:
        with closing(Hearing(self.loaded.backend, self.loaded.serving("audio_encoder"), self.loaded.config)) as hearing:
            return hearing(waveform)

    def see(self, pixels: Array, face_mask: Array) -> Callable[[str], Array]:
        self.portrait = drive(self.loaded.portrait_features(pixels, {"face_mask": face_mask}, self.variant))
        return lambda name: self.portrait[name].read()

    def denoise(self, noise: Array, tokens: Array, before: BeforeStep, after: AfterWindow) -> Array:
        state = Buffers(self.loaded.backend, state_tensors(self.loaded, self.run.frames))
        latents = noise
        with closing(VideoWorker(self.loaded, self.table, self.portrait)) as worker:
            worker.load(self.portrait, {})
            slot, windows, count = worker.take_slot(), worker.denoiser, len(self.run.starts)
            worker.begin(self.plan, state, lambda: tokens, slot)
            for made, done in enumerate(worker.denoise(self.table, noise, self.guidance, slot)):
                done.done.synchronize()
                step, window = divmod(made, count)
                if window == 0:
                    before(step, latents)
                after(step, window, windows.prediction(self.table.graphs[step]).read().copy())
                latents = state["latents"].read()[: self.run.frames].copy()
            worker.finish(slot, state)
        return latents

    def decode(self, latents: Array) -> Array:
        graph = self.loaded.serving("vae_decoder")
        batch = int(graph.spec.inputs[0].shape[0])  # type: ignore[arg-type]
        missing = -len(latents) % batch
        filled = np.concatenate([latents, latents[:1].repeat(missing, axis=0)])
        with Buffers(self.loaded.backend, [*graph.spec.inputs, *graph.spec.outputs]) as buffers:
            bound, pixels = graph.bind(buffers), []
            for first in range(0, len(filled), batch):
                buffers["frame_latents"].write(filled[first : first + batch])
                bound.run()
                pixels.append(buffers["pixels_rgb"].read().copy())
        return np.concatenate(pixels)[: len(latents)].transpose(0, 3, 1, 2).astype(np.float32) / 255


def check_echomimic(folder: Path, backend: str, dtype: str) -> list[Row]:
    """Run every run of a golden folder and compare. Every row, passed or not; see
    :func:`emo_rt.export.golden.check_golden`."""
    golden, rows = read_echomimic_golden(folder), Rows(BOUNDS[dtype])
    for runs in _of_one_bundle(golden.runs):
        with _runners(golden, runs, backend, dtype) as runner_of:
            for run in runs:
                model = golden.model(run)
                plan = EchoMimic(model.config).plan(ClipState(0, run.frames))
                comparison = Comparison(golden, model, run, runner_of(run, plan), rows)
                if not rows.found:
                    comparison.sound_and_settings()
                comparison.video(plan)
    return rows.found


class Comparison:
    """Holds one run against the golden one."""

    def __init__(self, golden: EchoMimicGolden, model: EmoModel, run: Run, runner: Runner, rows: Rows) -> None:
        self.golden, self.model, self.run, self.runner, self.rows = golden, model, run, runner, rows
        self.family, self.stored = EchoMimic(model.config), golden.tensors

    @property
    def bounds(self) -> Bounds:
        """Largest errors."""
        return self.rows.bounds

    def sound_and_settings(self) -> None:
        """What does not depend on the run: numpy's part in any float type, and the audio encoder."""
        stored, exact, encoder = self.stored, BOUNDS["fp32"].tokens, self.model.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        wave = stored["in.wave"][0]
        source = stored["in.picture"].astype(np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1
        self.rows.add("portrait pixels", source, stored["in.source"], exact)
        alphas = alphas_cumprod(self.model.config.schedule)
        self.rows.add("alphas_cumprod", alphas, stored["scheduler.alphas_cumprod"], exact)
        self.rows.add("mel filters", mel_filters(encoder.mel_bins), stored["audio.mel_filters"], exact)
        self.rows.add("log-mel", log_mel(wave, encoder.mel_bins), stored["audio.mel"], exact)
        self._hear("audio", wave, 0, 0)
        if "long_audio" in self.golden.stated:
            long = self.golden.stated["long_audio"]
            self._hear("long", self.golden.long_waveform(), int(long["hidden_from"]), int(long["chunks_from"]))

    def video(self, plan: Plan) -> None:
        """The portrait and all steps."""
        run, stored, bounds = self.run, self.stored, self.bounds
        self._schedule(plan)
        portrait = self.runner.see(stored["in.source"][None], stored["in.mask"][None, None])
        latent, face = portrait("portrait_latent"), portrait("face_feature")
        self.rows.add(f"{run.name} portrait latent", latent, stored["reference.latent"], bounds.tokens)
        self.rows.add(f"{run.name} face feature", face, stored["face.feature"][:, :, 0], bounds.tokens)
        self._reference(portrait)
        limit = self.family.noise_limit
        noise = self.golden.video(f"{run.name}.noise")[0].clip(-limit, limit)
        wave = stored["in.wave"][0]
        tokens = self.runner.hear(wave)[self.family.attended(len(wave))][: run.frames]
        self._windows: list[Array] = []
        latents = self.runner.denoise(noise, tokens, self._before, self._after)
        self.rows.add(f"{run.name} latents", latents, self.golden.video(f"{run.name}.latents")[0], bounds.latents)
        if f"{run.name}.frames" in stored:
            frames = self.golden.video(f"{run.name}.frames")[0]
            self.rows.add_frames(f"{run.name} frames", self.runner.decode(latents), frames, self.runner.bytes_out)

    def _hear(self, name: str, wave: Array, first_row: int, first_frame: int) -> None:
        """Hidden states and each frame's tokens, from some row and frame on."""
        hidden = self.runner.hear(wave)
        tokens = hidden[self.family.attended(len(wave))]
        chunks = tokens.reshape(len(tokens), -1, tokens.shape[-1])
        self.rows.add(f"{name} hidden", hidden[first_row:], self.stored[f"{name}.hidden"], self.bounds.hidden)
        self.rows.add(f"{name} chunks", chunks[first_frame:], self.stored[f"{name}.chunks"], self.bounds.tokens)

    def _schedule(self, plan: Plan) -> None:
        """Timesteps and windows, where ``config.json`` states them: whole numbers, so exact."""
        run, steps = self.run, range(self.run.steps)
        ours = {
            "timesteps": solver_table(self.model.config.schedule, "ddim", run.steps).timesteps,
            "windows": [[(np.arange(s, s + run.window) + step * plan.shift) % run.frames for s in run.starts]
                        for step in steps],
        }  # fmt: skip
        for name, values in ours.items():
            if name in run.stated:
                self.rows.add(f"{run.name} {name}", np.array(values), np.array(run.stated[name], float), WHOLE)

    def _reference(self, portrait: Callable[[str], Array]) -> None:
        """The stored features, as this run's Backbone projects them, against ours."""
        blocks = dict(self.model.blocks())
        for name, site in site_names(self.model.config).items():
            feature = torch.from_numpy(self.stored[f"reference.{name}"]).to(self.model.dtype)
            with torch.no_grad():
                projected = project(blocks[site].reference_attention(), feature)  # type: ignore[arg-type]
            for kind, wanted in zip(("key", "value"), projected, strict=True):
                what = f"reference_{kind}.{site.name}"
                theirs = wanted.float().numpy()
                self.rows.add(f"{self.run.name} {what}", portrait(what), theirs, self.bounds.tokens)

    def _before(self, step: int, latents: Array) -> None:
        name = f"{self.run.name}.step{step}.latents"
        what = f"{self.run.name} step {step} latents"
        self.rows.add(what, latents, self.golden.video(name)[0], self.bounds.latents)

    def _after(self, step: int, window: int, prediction: Array) -> None:
        run, count = self.run, len(self.run.starts)
        self._add_halves(f"step {step} window {window}", prediction, f"step{step}.window{window}.pred")
        self._windows.append(prediction)
        if window + 1 < count:
            return
        starts = [start + step * self.family.windows.shift for start in run.starts]
        average = np.zeros((len(prediction), run.frames, *prediction.shape[2:]), np.float32)
        for start, one in zip(starts, self._windows, strict=True):
            average[:, np.arange(start, start + run.window) % run.frames] += one
        average *= frame_weights(starts, run.window, run.frames)[None, :, None, None, None]
        self._windows.clear()
        self._add_halves(f"step {step}", average, f"step{step}.pred")

    def _add_halves(self, what: str, ours: Array, name: str) -> None:
        halves = ("unconditional", "conditional")[-len(ours) :]
        for half, mine, theirs in zip(halves, ours, self.golden.video(f"{self.run.name}.{name}"), strict=True):
            self.rows.add(f"{self.run.name} {what} {half}", mine, theirs, self.bounds.prediction)


@contextmanager
def _runners(
    golden: EchoMimicGolden, runs: Sequence[Run], backend: str, dtype: str
) -> Iterator[Callable[[Run, Plan], Runner]]:
    """What makes the runner of each of the runs, which fit one bundle."""
    if backend == "torch":
        yield lambda run, plan: TorchRunner(_exact(golden, run, dtype).to(_FLOATS[dtype]), run, plan)
        return
    with tempfile.TemporaryDirectory(prefix="emo-rt-golden-") as scratch:
        bundle = _export(golden, runs, Path(scratch) / "bundle", dtype)
        with LoadedModel(bundle, open_backend(backend, "cpu")) as loaded:
            yield lambda run, plan: WorkerRunner(loaded, run, plan)


_FLOATS = {"fp16": torch.float16, "fp32": torch.float32}


def _export(golden: EchoMimicGolden, runs: Sequence[Run], target: Path, dtype: str) -> Bundle:
    """One bundle for all of the runs: base weights first, the accelerated ones as a variant beside them."""
    kinds = sorted({run.accelerated for run in runs})
    first, *others = (next(run for run in runs if run.accelerated is kind) for kind in kinds)
    guidance = {kind: tuple(sorted({run.guided for run in runs if run.accelerated is kind})) for kind in kinds}
    options = ExportOptions(
        dtype=str(_FLOATS[dtype]).removeprefix("torch."),  # type: ignore[arg-type]
        guidance=guidance[first.accelerated],
        check=False,
        source="golden folder",
        licence="that of the golden folder",
        offers=offers(first.accelerated, has_both=bool(others)),
    )
    variants = {
        run_name: VariantSource(partial(_exact, golden, run, dtype), guidance[run.accelerated])
        for run_name, run in zip([ACCELERATED], others, strict=False)
    }
    return export_bundle(_exact(golden, first, dtype), target, options, variants=variants)


def _exact(golden: EchoMimicGolden, run: Run, dtype: str) -> EmoModel:
    """The run's weights, which fit the float type."""
    model = golden.model(run)
    if dtype == "fp16":
        refuse_half_overflow(model, original_name)
    return model


def _of_one_bundle(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, those of the same windows together: graphs have the shape of a window."""
    groups: dict[tuple[int, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.window, run.overlap), []).append(run)
    return list(groups.values())


def _preset(loaded: LoadedModel, run: Run) -> str | None:
    """The preset of the run's weights."""
    return FAST if run.accelerated and FAST in loaded.bundle.presets else None
