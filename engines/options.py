"""How to build: what is asked of the builder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from emo_rt.device.tensorrt.package import PACKAGES
from emo_rt.schema.kinds import Choice, Range
from emo_rt.schema.option import Outside, check_options


@dataclass(frozen=True)
class BuilderOptions:
    """Options that shape the plan; a plan built with others is stale."""

    optimization_level: Annotated[int, Range(0, 5)] = 3
    """Effort: 0 builds fastest, 5 runs fastest."""
    workspace_mib: Annotated[int | None, Range(1, 2**20, unit="MiB"), Outside("workspace", "MIB")] = None
    """Most scratch memory of one layer, in MiB. ``None`` = all of the GPU's."""
    strip_weights: bool = False
    """Small plans that take their weights from the bundle at load. Needs a GPU to build."""

    def __post_init__(self) -> None:
        check_options(self)

    def to_key(self) -> dict[str, int | bool | None]:
        """For the sidecar."""
        return asdict(self)


@dataclass(frozen=True)
class BuildRequest:
    """Which engines to build, with what, for what."""

    package: Annotated[str, Choice(("auto", *PACKAGES))] = "auto"
    """Package of TensorRT. auto takes the first that is installed."""
    target: Annotated[str, Outside(placeholder="GPU")] = "current"
    """What the engines are for: current is the GPU here. tensorrt_rtx also builds for others: sm86 (RTX 30), sm89
    (RTX 40), sm120 (RTX 50), sm121 (GB10), several with commas for one plan that serves all."""
    graphs: tuple[str, ...] | None = None
    """Only these graphs. ``None`` = all."""
    options: BuilderOptions = BuilderOptions()
    """Options of the builder."""
    cache: Annotated[Path | None, Outside(placeholder="DIR")] = None
    """Folder for engines. ``None`` = $EMO_RT_ENGINE_CACHE, else the bundle, else the user's cache.

    See :func:`emo_rt.device.tensorrt.plan.build_folder`."""
    force: bool = False
    """Build again what is up to date."""
