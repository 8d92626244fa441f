"""A solver is a table: one row of six numbers per step, computed in numpy and run inside the ``step`` graph.

With x the state and pred the network's output at ``timesteps[i]``, row i = (p, q, a, b, c, d) means::

    x0   = p·x + q·pred
    next = a·x + b·x0 + c·x0_prev + d·x0_prev2

Every solver works on the variance-preserving state x = α·x0 + σ·noise, with α = √ᾱ, σ = √(1−ᾱ) and ᾱ =
:func:`alphas_cumprod` at the step's timestep. The first x is plain noise of unit variance; the last ``next`` is x0.

All four solvers are one formula with more and more terms. Were x0 the same all along, the move from (α, σ) to (α', σ')
would be exactly ``a = σ'/σ, b = α' − a·α``: that is DDIM, and also Euler in diffusers' σ-space, written in x. Call this
b the *gain*. DPM-Solver++ 2M adds the slope of x0 over the last two steps; UniPC corrects that with the newest x0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.model.config import ScheduleConfig
from emo_rt.model.options import SOLVERS

Float64 = NDArray[np.float64]

MULTISTEP = ("dpmpp_2m", "unipc")
"""Solvers that look back at earlier x0."""

SMALLEST_SIGNAL = 2.0**-24
"""Stands for ᾱ = 0 where a solver needs log(α/σ): fp16's smallest subnormal, as in diffusers' schedulers."""


@dataclass(frozen=True, eq=False)
class SolverTable:
    """The steps of one run, in the order in which they are taken. Both arrays are C-contiguous and read-only."""

    timesteps: NDArray[np.float32]
    """(steps,) float32: training timesteps handed to the network; whole numbers, falling."""
    coefficients: NDArray[np.float32]
    """(steps, 6) float32: columns p, q, a, b, c, d. c is exactly 0 in the first row, d in the first two: no history."""


def noise_levels(schedule: ScheduleConfig, table: SolverTable) -> NDArray[np.float32]:
    """(steps, 2) float32: α and σ of the state in front of each step, of a solver that does not look back.

    Of the state itself: DDIM lands a little off the timestep that the network is told next.
    """
    alpha = float(np.sqrt(alphas_cumprod(schedule)[int(table.timesteps[0])]))
    levels = [(alpha, (1 - alpha**2) ** 0.5)]
    for _, _, a, b, _, _ in table.coefficients[:-1].tolist():
        alpha, sigma = levels[-1]
        levels.append((b + a * alpha, a * sigma))
    return np.array(levels, np.float32)


def solver_table(schedule: ScheduleConfig, solver: str, steps: int) -> SolverTable:
    """The table of ``solver`` for a run of ``steps`` steps.

    - ``ddim``: arXiv 2010.02502, eq. 12 with η = 0; diffusers' ``DDIMScheduler(set_alpha_to_one=True)``.
    - ``euler``: arXiv 2206.00364, algorithm 1 without churn; ``EulerDiscreteScheduler``.
    - ``dpmpp_2m``: arXiv 2211.01095, algorithm 2, midpoint; ``DPMSolverMultistepScheduler``.
    - ``unipc``: arXiv 2302.04867, order 2 with B(h) = eʰ − 1 and its corrector; ``UniPCMultistepScheduler``.

    DDIM lands on ``timestep − train_timesteps // steps``, as diffusers and the checkpoints' own code do: a little off
    the next timestep wherever ``steps`` does not divide ``train_timesteps``. The others land on the next timestep.
    diffusers is not followed in three places:

    - Euler starts from unit noise, as the others do. With ``trailing`` spacing diffusers starts from σ·noise.
    - ``leading`` timesteps past the end of the training schedule are refused, not clamped.
    - There are always ``steps`` timesteps. diffusers' ``trailing`` has one more, −1, for 61 of 1000 and some others.

    Args:
        schedule: what the checkpoint was trained with.
        solver: one of :data:`emo_rt.model.options.SOLVERS`.
        steps: 1 … ``schedule.train_timesteps``; for multistep solvers with ``leading`` spacing one less.

    Raises:
        ConfigError: unknown solver, steps out of range, ``leading`` timesteps past the end, or betas that leave a step
            without signal or without noise.
    """
    total = schedule.train_timesteps
    check(solver in SOLVERS, "solver", solver, f"one of {', '.join(SOLVERS)}")
    check(isinstance(steps, int) and 1 <= steps <= total, "steps", steps, f"an integer from 1 to {total}")
    timesteps = _timesteps(schedule, solver, steps)
    signal = _signal(schedule, solver, timesteps)
    landing = _ddim_landing(schedule, timesteps) if solver == "ddim" else signal[1:]
    rows = np.zeros((steps, 6))
    rows[:, 0:2] = _to_x0(schedule, np.sqrt(signal[:-1]), np.sqrt(1 - signal[:-1]))
    rows[:, 2:6] = _update(solver, signal[:-1], landing)
    return SolverTable(_read_only(timesteps), _read_only(rows))


def alphas_cumprod(schedule: ScheduleConfig) -> Float64:
    """ᾱ of every training timestep: the share of the signal in the variance of x.

    Returns:
        (train_timesteps,) float64, falling; the last is exactly 0 with ``zero_terminal_snr``.
    """
    root = 0.5 if schedule.beta_schedule == "scaled_linear" else 1.0
    betas = np.linspace(schedule.beta_start**root, schedule.beta_end**root, schedule.train_timesteps) ** (1 / root)
    cumulative = np.cumprod(1 - betas, dtype=np.float64)
    return _zero_terminal_snr(cumulative) if schedule.zero_terminal_snr else cumulative


def _zero_terminal_snr(cumulative: Float64) -> Float64:
    """Shift and scale √ᾱ so that the last is 0 and the first stays (arXiv 2305.08891, algorithm 1)."""
    alpha = np.sqrt(cumulative)
    rescaled: Float64 = ((alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))) ** 2
    return rescaled


def _timesteps(schedule: ScheduleConfig, solver: str, steps: int) -> NDArray[np.int64]:
    """(steps,) int64, falling (arXiv 2305.08891, table 2)."""
    total, offset = schedule.train_timesteps, schedule.steps_offset
    if schedule.timestep_spacing == "trailing":
        # Cut because float error can make arange one longer. Computed like this, not more exactly: halves (48 steps)
        # then round as they do in diffusers.
        return np.round(np.arange(total, 0, -total / steps)[:steps]).astype(np.int64) - 1
    # Multistep schedulers of diffusers cut the schedule in one part more and leave out timestep 0.
    parts = steps + 1 if solver in MULTISTEP else steps
    check(parts <= total, "steps", steps, f"1 … {total - 1} for {solver} with 'leading' spacing; or use 'trailing'")
    stride = total // parts
    room = total - 1 - (parts - 1) * stride
    check(0 <= offset <= room, "schedule.steps_offset", offset,
          f"0 … {room} for {steps} 'leading' steps of {solver}; take fewer steps or 'trailing' spacing")  # fmt: skip
    return (parts - 1 - np.arange(steps)) * stride + offset


def _signal(schedule: ScheduleConfig, solver: str, timesteps: NDArray[np.int64]) -> Float64:
    """(steps + 1,) float64: ᾱ at each timestep and, behind the last, the 1 of the clean x0."""
    signal = np.append(alphas_cumprod(schedule)[timesteps], 1.0)
    pure_noise_start = schedule.zero_terminal_snr and signal[0] == 0
    if pure_noise_start and solver != "ddim":
        signal[0] = SMALLEST_SIGNAL
    visible = signal[0] > np.finfo(np.float32).tiny or pure_noise_start
    check(bool(visible and np.all(np.diff(signal) > 0)), "schedule.beta_start, beta_end",
          (schedule.beta_start, schedule.beta_end),
          f"betas whose alphas_cumprod grows at each step of {solver}, within 0 … 1; here it starts with "
          f"{signal[0]:.3g}, {signal[1]:.3g} and ends with {signal[-2]:.6g}, {signal[-1]:.6g}. Raise beta_start, lower "
          "beta_end or take fewer steps")  # fmt: skip
    return signal


def _ddim_landing(schedule: ScheduleConfig, timesteps: NDArray[np.int64]) -> Float64:
    """(steps,) float64: ᾱ that each DDIM step lands on; 1, the clean x0, in front of the first training timestep."""
    previous = timesteps - schedule.train_timesteps // len(timesteps)
    return np.where(previous < 0, 1.0, alphas_cumprod(schedule)[previous])


def _to_x0(schedule: ScheduleConfig, alpha: Float64, sigma: Float64) -> Float64:
    """(steps, 2) float64: columns p, q. v = α·noise − σ·x0 (arXiv 2202.00512, appendix D)."""
    if schedule.prediction_type == "v_prediction":
        return np.stack([alpha, -sigma], axis=1)
    return np.stack([1 / alpha, -sigma / alpha], axis=1)


def _update(solver: str, start: Float64, landing: Float64) -> Float64:
    """(steps, 4) float64: columns a, b, c, d, from the (steps,) levels ᾱ where each step starts and lands."""
    alpha, sigma = np.sqrt(start), np.sqrt(1 - start)
    carry = np.sqrt(1 - landing) / sigma
    gain = np.sqrt(landing) - carry * alpha
    rows = np.zeros((len(gain), 4))
    rows[:, 0], rows[:, 1] = carry, gain
    if solver in MULTISTEP:
        h = np.diff(np.log(alpha / sigma))  # the last step's h is infinite, and never needed
        _add_slope(rows, gain, h)
        if solver == "unipc":
            _add_correction(rows, gain, h)
    return rows


def _add_slope(rows: Float64, gain: Float64, h: Float64) -> None:
    """Second order: follow the slope of x0 in log(α/σ) for half a step, gain·½·(x0 − x0_prev)/r with r = h_prev/h.

    The first step has no slope yet; the last one is first order because its h is infinite. In place.
    """
    slope = 0.5 * gain[1:-1] * h[1:] / h[:-1]
    rows[1:-1, 1] += slope
    rows[1:-1, 2] -= slope


def _add_correction(rows: Float64, gain: Float64, h: Float64) -> None:
    """UniC (arXiv 2302.04867, algorithm 1): redo the step before with the x0 that the network gave at its end.

    Write z for the corrected state, m for x0, D = (m[i-1] − m[i-2])/r. With step i-1's carry and gain::

        predicted  x[i] = carry·z[i-1] + gain·m[i-1] + gain·½·D
        corrected  z[i] = carry·z[i-1] + gain·m[i-1] + gain·(ρ0·D + ρ1·(m[i] − m[i-1]))

    so z[i] = x[i] + gain·((ρ0 − ½)·D + ρ1·(m[i] − m[i-1])): the corrected state needs no buffer of its own, only an x0
    more. Step i starts from z[i] instead of x[i], which adds its own carry times the difference. In place.
    """
    new = np.full(len(h), 0.5)  # ρ1. The very first step was of order 1: ½ by definition, and no D
    old = np.zeros(len(h))  # (ρ0 − ½)/r
    ratio = h[:-1] / h[1:]
    first, second = _moments(-h[1:])
    weight = (first - second) / (1 + ratio)  # ρ0, from ρ0 + ρ1 = first and −r·ρ0 + ρ1 = second
    new[1:] = first - weight
    old[1:] = (weight - 0.5) / ratio
    scale = rows[1:, 0] * gain[:-1]
    rows[1:, 1] += scale * new
    rows[1:, 2] += scale * (old - new)
    rows[1:, 3] -= scale * old


def _moments(h: Float64) -> tuple[Float64, Float64]:
    """The right-hand sides h·φ2(h)/B and 2·h·φ3(h)/B of UniPC's order conditions, with B = eʰ − 1 ("bh2")."""
    scale = np.expm1(h)
    phi2 = scale / h - 1
    phi3 = phi2 / h - 0.5
    return phi2 / scale, 2 * phi3 / scale


def _read_only(values: NDArray[np.int64] | Float64) -> NDArray[np.float32]:
    array = np.ascontiguousarray(values, dtype=np.float32)
    array.setflags(write=False)
    return array
