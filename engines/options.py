"""How to build: what is asked of the builder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from emo_rt.checks import check, within

LEVELS = (0, 5)
"""Optimisation levels of both packages."""


@dataclass(frozen=True)
class BuilderOptions:
    """Options that shape the plan; a plan built with others is stale."""

    optimization_level: int = 3
    """Effort: 0 (fastest build) … 5 (fastest engine)."""
    workspace_mib: int | None = None
    """Most scratch memory that one layer may ask for, MiB; ``None``: all of the GPU's."""
    strip_weights: bool = False
    """Leave the weights out: a small plan that is refitted from the ONNX file at load. Needs a GPU to build."""

    def __post_init__(self) -> None:
        low, high = LEVELS
        level, workspace = self.optimization_level, self.workspace_mib
        fits = isinstance(level, int) and within(level, low, high)
        check(fits, "optimization_level", level, f"an integer from {low} to {high}")
        fits = workspace is None or (isinstance(workspace, int) and within(workspace, 1, 2**20))
        check(fits, "workspace_mib", workspace, "an integer from 1 to 1048576 MiB, or None")

    def to_key(self) -> dict[str, int | bool | None]:
        """For the sidecar."""
        return asdict(self)


@dataclass(frozen=True)
class BuildRequest:
    """Which engines to build, with what, for what."""

    package: str = "auto"
    """``tensorrt``, ``tensorrt_rtx``, or the first of them that is installed."""
    target: str = "current"
    """``current`` (the GPU here), or for ``tensorrt_rtx`` one or several like ``sm86,sm89``."""
    graphs: tuple[str, ...] | None = None
    """Names of graphs; ``None``: all of the bundle."""
    options: BuilderOptions = BuilderOptions()
    """Options of the builder."""
    cache: Path | None = None
    """Folder for engines outside the bundle; ``None``: see :func:`emo_rt.device.tensorrt.plan.build_folder`."""
    force: bool = False
    """Build again what is up to date."""
