"""Solver tables against diffusers' schedulers, and against what must hold for any solver."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emo_rt.errors import ConfigError
from emo_rt.model.config import ScheduleConfig
from emo_rt.model.options import SOLVERS
from emo_rt.model.solvers import MULTISTEP, SMALLEST_SIGNAL, SolverTable, alphas_cumprod, solver_table

# diffusers turns tensors into arrays in a way that numpy 2 frowns at; not ours to repair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

Array = np.ndarray[Any, np.dtype[np.float64]]
Network = Callable[[Array, int], Array]

HALLO = ScheduleConfig(
    beta_schedule="linear", prediction_type="v_prediction", zero_terminal_snr=True, timestep_spacing="trailing"
)
SCHEDULES = [
    ScheduleConfig(
        beta_schedule=betas, prediction_type=prediction, zero_terminal_snr=zero_snr, timestep_spacing=spacing
    )
    for betas, prediction, zero_snr, spacing in itertools.product(
        ("linear", "scaled_linear"), ("epsilon", "v_prediction"), (False, True), ("leading", "trailing")
    )
    if not (zero_snr and prediction == "epsilon")  # test_epsilon_with_zero_terminal_snr_is_refused
]
every_run = pytest.mark.parametrize(
    ("solver", "schedule", "steps"),
    [
        pytest.param(
            solver, s, steps,
            id=f"{solver}-{s.beta_schedule}-{s.prediction_type}-{s.timestep_spacing}-"
            f"{'zero_snr' if s.zero_terminal_snr else 'plain'}-{steps}",
        )
        for solver, s, steps in itertools.product(SOLVERS, SCHEDULES, (1, 2, 4, 10, 40))
    ],
)  # fmt: skip


def noise() -> Array:
    return np.random.default_rng(7).standard_normal((2, 4, 6, 6))


def network(x: Array, timestep: int) -> Array:
    """Deterministic, and far enough from linear that an error in any coefficient shows."""
    return 1.1 * np.tanh(0.8 * x + np.sin(timestep / 200)) + 0.1 * x


def run_table(table: SolverTable, predict: Network, x: Array) -> list[Array]:
    """The states of a whole run in float64: one in front of each step, then the result."""
    states, previous, previous2 = [x], np.zeros_like(x), np.zeros_like(x)
    for timestep, (p, q, a, b, c, d) in zip(table.timesteps, table.coefficients.astype(np.float64), strict=True):
        x0 = p * x + q * predict(x, int(timestep))
        x = a * x + b * x0 + c * previous + d * previous2
        previous, previous2 = x0, previous
        states.append(x)
    return states


def scheduler_for(schedule: ScheduleConfig, solver: str) -> Any:
    cls, options = {
        "ddim": (DDIMScheduler, {"clip_sample": False}),
        "euler": (EulerDiscreteScheduler, {}),
        "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
        "unipc": (UniPCMultistepScheduler, {"solver_type": "bh2", "solver_order": 2}),
    }[solver]
    return cls(
        num_train_timesteps=schedule.train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type=schedule.prediction_type,
        timestep_spacing=schedule.timestep_spacing,
        steps_offset=schedule.steps_offset,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
        **options,
    )


def float64_levels(scheduler: Any, schedule: ScheduleConfig, solver: str, steps: int) -> None:
    """Set the timesteps, with noise levels in float64 instead of the float32 that diffusers computes them in."""
    levels = solver_levels(schedule, solver)
    scheduler.alphas_cumprod = torch.from_numpy(levels)
    scheduler.set_timesteps(steps)
    if solver != "ddim":
        chosen = levels[scheduler.timesteps.long().numpy()]
        scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - chosen) / chosen), 0.0))


def run_scheduler(scheduler: Any, predict: Network, x: Array) -> list[Array]:
    """Like run_table, for a diffusers scheduler; states in the form that the network sees."""
    state = torch.from_numpy(x)
    if isinstance(scheduler, EulerDiscreteScheduler):
        # Not init_noise_sigma: with trailing spacing that is sigma, which leaves out the vanishing signal's variance.
        state = state * (scheduler.sigmas[0].double() ** 2 + 1) ** 0.5
    states = []
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(state, timestep).numpy()
        states.append(seen)
        state = scheduler.step(torch.from_numpy(predict(seen, int(timestep))), timestep, state).prev_sample
    return [*states, state.numpy()]


def solver_levels(schedule: ScheduleConfig, solver: str) -> Array:
    """alphas_cumprod as the solver uses it."""
    levels = alphas_cumprod(schedule)
    if schedule.zero_terminal_snr and solver != "ddim":
        levels[-1] = SMALLEST_SIGNAL
    return levels


def relative_error(actual: Array, expected: Array) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


# --- against diffusers ------------------------------------------------------------------------------------------------


@every_run
def test_run_equals_diffusers_as_it_is(solver: str, schedule: ScheduleConfig, steps: int) -> None:
    table, scheduler = solver_table(schedule, solver, steps), scheduler_for(schedule, solver)
    scheduler.set_timesteps(steps)
    expected = run_scheduler(scheduler, network, noise())[-1]
    actual = run_table(table, network, noise())[-1]
    assert table.timesteps.tolist() == scheduler.timesteps.tolist()
    # diffusers computes the levels in float32. Worst for Euler, which from a first sigma of 4096 takes differences of
    # float32 sigmas: 4096 * 6e-8 = 2e-4 off in a state of about 2. The float64 test below shows that it is only that.
    from_pure_noise = solver == "euler" and schedule.zero_terminal_snr and schedule.timestep_spacing == "trailing"
    assert relative_error(actual, expected) <= (1e-4 if from_pure_noise else 1e-5)


@every_run
def test_run_equals_diffusers_with_levels_in_float64(solver: str, schedule: ScheduleConfig, steps: int) -> None:
    scheduler = scheduler_for(schedule, solver)
    float64_levels(scheduler, schedule, solver, steps)
    expected = run_scheduler(scheduler, network, noise())[-1]
    actual = run_table(solver_table(schedule, solver, steps), network, noise())[-1]
    # Not tighter: our coefficients are float32, and Euler and DPM-Solver++ of diffusers cast the state to float32.
    assert relative_error(actual, expected) <= 2e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alphas_cumprod_equals_diffusers(schedule: ScheduleConfig) -> None:
    expected = scheduler_for(schedule, "ddim").alphas_cumprod.double().numpy()
    # diffusers works in float32; zero terminal SNR subtracts nearly equal numbers at the end of the schedule.
    np.testing.assert_allclose(alphas_cumprod(schedule), expected, rtol=1e-4 if schedule.zero_terminal_snr else 2e-6)


def test_epsilon_with_zero_terminal_snr_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_terminal_snr is True; expected false with 'epsilon'"):
        dataclasses.replace(HALLO, prediction_type="epsilon")
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(4)
    assert not np.isfinite(run_scheduler(scheduler, network, noise())[-1]).any()  # nor can diffusers do it


@pytest.mark.parametrize("steps", [3, 6, 7, 30, 600])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_lands_where_diffusers_does_though_steps_do_not_divide_the_schedule(
    schedule: ScheduleConfig, steps: int
) -> None:
    scheduler = scheduler_for(schedule, "ddim")
    float64_levels(scheduler, schedule, "ddim", steps)
    if steps > 500 and schedule.timestep_spacing == "leading":
        scheduler.final_alpha_cumprod = torch.ones(())
    table = solver_table(schedule, "ddim", steps)
    assert table.timesteps.tolist() == scheduler.timesteps.tolist()
    ours, theirs = run_table(table, network, noise()), run_scheduler(scheduler, network, noise())
    assert max(map(relative_error, ours, theirs)) < 1e-5


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if not s.zero_terminal_snr])
def test_euler_of_diffusers_starts_from_unit_noise_only_with_leading_spacing(schedule: ScheduleConfig) -> None:
    scheduler = scheduler_for(schedule, "euler")
    scheduler.set_timesteps(4)
    seen = scheduler.scale_model_input(scheduler.init_noise_sigma * torch.ones(1), scheduler.timesteps[0])
    level = alphas_cumprod(schedule)[int(scheduler.timesteps[0])]
    assert float(seen) == pytest.approx(1 if schedule.timestep_spacing == "leading" else np.sqrt(1 - level), rel=1e-6)


def test_hallo_default_table() -> None:
    table = solver_table(HALLO, "ddim", 40)
    assert table.timesteps.tolist() == list(range(999, 0, -25))
    assert table.coefficients[0, :2].tolist() == [0, -1]  # pure noise: x0 is all in v
    assert table.coefficients[-1, 2:].tolist() == [0, 1, 0, 0]  # the last state is x0
    assert not table.coefficients[:, 4:].any()


# --- what must hold for any solver ------------------------------------------------------------------------------------

PICTURE = np.random.default_rng(11).uniform(-2, 2, noise().shape)


def path(schedule: ScheduleConfig, solver: str, timestep: int) -> Array:
    """The state at a timestep if x0 is PICTURE and the noise is that of a step from pure noise."""
    level = solver_levels(schedule, solver)[timestep]
    return np.asarray(np.sqrt(level) * PICTURE + np.sqrt(1 - level) * noise())


def oracle_for(schedule: ScheduleConfig, solver: str) -> Network:
    """A network that always sees PICTURE in the state."""
    levels = solver_levels(schedule, solver)

    def predict(x: Array, timestep: int) -> Array:
        alpha, sigma = np.sqrt(levels[timestep]), np.sqrt(1 - levels[timestep])
        epsilon = (x - alpha * PICTURE) / sigma
        return np.asarray(epsilon if schedule.prediction_type == "epsilon" else alpha * epsilon - sigma * PICTURE)

    return predict


@st.composite
def runs(draw: st.DrawFn, max_steps: int = 1000, on_path: bool = False) -> tuple[ScheduleConfig, str, int]:
    """Any schedule, solver and number of steps that go together; ``on_path``: that land on their own timesteps."""
    prediction = draw(st.sampled_from(["epsilon", "v_prediction"]))
    schedule = ScheduleConfig(
        train_timesteps=draw(st.integers(2, 1000)),
        beta_start=draw(st.floats(1e-4, 2e-3)),
        beta_end=draw(st.floats(5e-3, 0.015)),
        beta_schedule=draw(st.sampled_from(["linear", "scaled_linear"])),
        prediction_type=prediction,
        zero_terminal_snr=prediction == "v_prediction" and draw(st.booleans()),
        timestep_spacing=draw(st.sampled_from(["leading", "trailing"])),
        steps_offset=draw(st.integers(0, 3)),
    )
    solver = draw(st.sampled_from(SOLVERS))
    steps = draw(st.integers(1, min(max_steps, schedule.train_timesteps)))
    assume(not on_path or solver != "ddim" or schedule.train_timesteps % steps == 0)
    if schedule.timestep_spacing == "leading":
        parts = steps + (solver in MULTISTEP)
        assume(parts <= schedule.train_timesteps)
        assume((parts - 1) * (schedule.train_timesteps // parts) + schedule.steps_offset < schedule.train_timesteps)
    else:  # the stand-in for zero must stay the smallest level
        assume(steps == 1 or not schedule.zero_terminal_snr or alphas_cumprod(schedule)[-2] > SMALLEST_SIGNAL)
    return schedule, solver, steps


@settings(deadline=None, max_examples=200)
@given(runs())
def test_table_is_well_formed(run: tuple[ScheduleConfig, str, int]) -> None:
    schedule, solver, steps = run
    table = solver_table(schedule, solver, steps)
    assert table.timesteps.shape == (steps,)
    assert table.coefficients.shape == (steps, 6)
    for array in (table.timesteps, table.coefficients):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert not array.flags.writeable
        assert np.isfinite(array).all()
    assert np.all(np.diff(table.timesteps) < 0)
    assert 0 <= table.timesteps[-1] <= table.timesteps[0] < schedule.train_timesteps
    assert not table.coefficients[0, 4:].any()
    assert not table.coefficients[:2, 5].any()


@settings(deadline=None, max_examples=200)
@given(runs(max_steps=60, on_path=True))
def test_perfect_network_keeps_the_state_at_the_told_noise_level(run: tuple[ScheduleConfig, str, int]) -> None:
    schedule, solver, steps = run
    table = solver_table(schedule, solver, steps)
    first = int(table.timesteps[0])
    states = run_table(table, oracle_for(schedule, solver), path(schedule, solver, first))
    expected = [path(schedule, solver, int(t)) for t in table.timesteps]
    assert max(map(relative_error, states, expected)) <= 1e-5


@settings(deadline=None, max_examples=200)
@given(runs(max_steps=60, on_path=True))
def test_perfect_network_ends_at_its_picture(run: tuple[ScheduleConfig, str, int]) -> None:
    schedule, solver, steps = run
    table = solver_table(schedule, solver, steps)
    result = run_table(table, oracle_for(schedule, solver), noise())[-1]
    assert table.coefficients[-1, 2:].tolist() == [0, 1, 0, 0]
    # Float32 rounding of p and q, which epsilon prediction makes large if there is one step and little signal.
    scale = float(np.abs(table.coefficients[-1, :2]).max())
    assert relative_error(result, PICTURE) <= 5e-7 * max(scale, 1)


@pytest.mark.parametrize("solver", MULTISTEP)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_second_order_solvers_follow_the_exact_path_better(solver: str, spacing: str) -> None:
    schedule = dataclasses.replace(HALLO, zero_terminal_snr=False, timestep_spacing=spacing)
    assert gaussian_error(schedule, solver, steps=20) < gaussian_error(schedule, "ddim", steps=20) / 5


def gaussian_error(schedule: ScheduleConfig, solver: str, steps: int) -> float:
    """Largest relative error on data from N(0, 0.5²), where the best prediction and the exact path are known."""
    levels, table = alphas_cumprod(schedule), solver_table(schedule, solver, steps)
    deviation = np.sqrt(levels * 0.25 + 1 - levels)  # of the state, along the whole schedule

    def predict(x: Array, timestep: int) -> Array:
        level = levels[timestep]
        x0 = np.sqrt(level) * 0.25 * x / deviation[timestep] ** 2
        return np.asarray((np.sqrt(level) * x - x0) / np.sqrt(1 - level))

    chosen = deviation[table.timesteps.astype(int)]
    states = run_table(table, predict, np.full(1, chosen[0]))[:-1]
    return float(np.max(np.abs(np.concatenate(states) / chosen - 1)))


def test_unipc_is_dpmpp_2m_with_a_corrector() -> None:
    plain, corrected = (solver_table(HALLO, solver, 10).coefficients for solver in MULTISTEP)
    np.testing.assert_array_equal(plain[:, :3], corrected[:, :3])
    assert not plain[:, 5].any()
    assert corrected[2:-1, 5].all()
    np.testing.assert_allclose(plain[:, 3:].sum(axis=1), corrected[:, 3:].sum(axis=1), atol=1e-6)


def test_table_cannot_be_changed() -> None:
    table = solver_table(HALLO, "ddim", 4)
    with pytest.raises(ValueError, match="read-only"):
        table.coefficients[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        table.timesteps[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.timesteps = table.timesteps  # type: ignore[misc]


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, "4", None])
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_out_of_range(solver: str, steps: Any) -> None:
    with pytest.raises(ConfigError, match=r"steps is .*; expected an integer from 1 to 1000"):
        solver_table(HALLO, solver, steps)


def test_unknown_solver() -> None:
    with pytest.raises(ConfigError, match="solver is 'heun'; expected one of ddim, euler, dpmpp_2m, unipc"):
        solver_table(HALLO, "heun", 4)


@pytest.mark.parametrize("solver", MULTISTEP)
def test_leading_multistep_needs_one_part_more(solver: str) -> None:
    schedule = dataclasses.replace(HALLO, timestep_spacing="leading")
    assert solver_table(schedule, solver, 998).timesteps[0] == 999
    with pytest.raises(ConfigError, match=r"steps is 1000; expected 1 … 999 .* or use 'trailing'"):
        solver_table(schedule, solver, 1000)


@pytest.mark.parametrize(("solver", "steps"), [("ddim", 1000), ("euler", 1000), ("dpmpp_2m", 999), ("unipc", 999)])
def test_leading_timesteps_past_the_end(solver: str, steps: int) -> None:
    schedule = dataclasses.replace(HALLO, timestep_spacing="leading")
    with pytest.raises(ConfigError, match=rf"steps_offset is 1; expected 0 … 0 for {steps} 'leading' steps"):
        solver_table(schedule, solver, steps)
    assert solver_table(dataclasses.replace(schedule, steps_offset=0), solver, steps).timesteps[0] == 999


def test_negative_offset() -> None:
    schedule = dataclasses.replace(HALLO, timestep_spacing="leading", steps_offset=-1)
    with pytest.raises(ConfigError, match="steps_offset is -1; expected 0 … 24 for 40 'leading' steps"):
        solver_table(schedule, "ddim", 40)


@pytest.mark.parametrize(
    ("changes", "solver", "steps"),
    [
        ({"beta_start": 1e-17}, "ddim", 1000),  # no noise at the last step
        ({"beta_start": 0.5, "beta_end": 0.999, "zero_terminal_snr": False}, "ddim", 4),  # no signal at the first
        ({"beta_end": 0.05}, "unipc", 1000),  # the second step has less signal than the stand-in for zero
    ],
)
def test_betas_that_leave_nothing_to_compute_with(changes: dict[str, Any], solver: str, steps: int) -> None:
    with pytest.raises(ConfigError, match=r"beta_start, beta_end is \(.*expected betas whose .* within 0 … 1"):
        solver_table(dataclasses.replace(HALLO, **changes), solver, steps)
