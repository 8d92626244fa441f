"""Backends, and the only place that chooses among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from emo_rt.checks import check
from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.builtin import ACCELERATED, LAST, ORDINARY, ROUNDING, SLOW_TO_OPEN
from emo_rt.device.device_name import DeviceKind, DeviceName
from emo_rt.device.entry import BackendEntry, PlacedEntry
from emo_rt.device.plugins import Plugin, plugin_names, plugins
from emo_rt.errors import BackendUnavailableError, EmoRtError
from emo_rt.model.bundle import Bundle
from emo_rt.schema.kinds import Range, Whole

__all__ = ["Backend", "BackendEntry", "BoundGraph", "Graph", "open_backend"]

OWN_NAMES = tuple(dict.fromkeys(entry.NAME for entry in (*ACCELERATED, *ORDINARY)))
"""Names of the backends that emo_rt brings along."""
AUTO, FASTEST = CHOOSING = ("auto", "fastest")
"""Names that choose by themselves. ``fastest`` also takes what is slow to open: for processes that run long."""
THREADS = Range(1, 1024)
"""CPU threads per graph."""

EXACT = "EMO_RT_EXACT"
"""Variable of the environment; with ``1`` no process of it rounds more than fp32 does, unless a backend is named."""
REMEDY = "use device 'cpu' or 'auto', with backend 'onnxruntime' or 'auto'; `emo-rt doctor` says what is here"

logger = logging.getLogger(__name__)


def backend_names() -> tuple[str, ...]:
    """Names of backends that a caller may ask for: those that choose, our own, those of other packages."""
    others = [name for name in plugin_names() if name not in OWN_NAMES]
    return (*CHOOSING, *sorted(OWN_NAMES), *others)


def foreign_backends() -> tuple[Plugin, ...]:
    """Backends of other packages, broken ones too."""
    return plugins(OWN_NAMES)


def entries() -> tuple[BackendEntry, ...]:
    """Every usable backend on every device, in the order in which ``auto`` tries them."""
    return (*ACCELERATED, *(one.entry for one in foreign_backends() if one.entry is not None), *ORDINARY)


def open_backend(
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    bundle: Bundle | None = None,
    *,
    exact: bool = False,
) -> Backend:
    """The requested backend on the requested device.

    ``bundle``: what will be opened; TensorRT is chosen by itself only if this has an engine for every graph. Only
    :data:`CHOOSING` choose by themselves, and say so once in the log; ``exact`` or :data:`EXACT` keeps them from
    :data:`ROUNDING`. Raises :class:`BackendUnavailableError` for a backend or device that cannot be had, with the
    reasons, :class:`ConfigError` for an unknown name.
    """
    names = backend_names()
    check(isinstance(backend, str) and backend in names, "backend", backend, f"one of {', '.join(names)}")
    check(isinstance(device, str) and DeviceKind().has(device), "device", device, DeviceKind.words)
    usable = threads is None or Whole(THREADS).has(threads)
    check(usable, "threads", threads, f"{Whole(THREADS).words}, or None")
    is_auto = backend in CHOOSING
    is_exact = exact or os.environ.get(EXACT) == "1"
    left_out = (*(ROUNDING if is_exact else ()), *(SLOW_TO_OPEN if backend == AUTO else ())) if is_auto else ()
    fitting = [one for one in _entries_on(device) if is_auto or backend == one.NAME]
    choices = [one for one in fitting if one not in left_out]
    if not choices:
        raise BackendUnavailableError(_no_choice(backend, device))
    asked = (("device", device, device == "auto"), ("backend", backend, is_auto))
    named = [f"{kind} {name!r}" for kind, name, is_open in asked if not is_open]
    chosen, reasons = _first(choices, threads, bundle, is_auto=is_auto)
    if chosen is None and LAST in choices:  # not even the CPU: its reason is the one to act on
        raise BackendUnavailableError("; ".join(reversed(reasons)))
    if chosen is None:
        raise BackendUnavailableError(f"{' and '.join(named)} cannot be had: {'; '.join(reasons)}; {REMEDY}")
    if len(named) < len(asked):
        because = f", because {'; '.join(reasons)}" if reasons else ""
        if chosen.name in {entry.NAME for entry in ROUNDING} and is_auto:
            because += f"; it rounds products to bfloat16, with exact=True, --exact or {EXACT}=1 none does"
        logger.info("running on %s (%s)%s", chosen.device, chosen.name, because)
    return chosen


def _entries_on(device: str) -> list[BackendEntry]:
    """Those that run on a device, or all for ``auto``."""
    if device == "auto":
        return list(entries())
    name = DeviceName.read(device)
    fitting = [one for one in entries() if name.kind == one.DEVICE]
    return [one.on(name.index) for one in fitting if isinstance(one, PlacedEntry)] if name.index else fitting


def _is_ours(entry: BackendEntry) -> bool:
    return type(entry) in {type(one) for one in (*ACCELERATED, *ORDINARY)}


def try_open(entry: BackendEntry, threads: int | None = None) -> Backend:
    """Open one. Raises :class:`EmoRtError`, whatever others' code raises."""
    try:
        return entry.open(threads)
    except EmoRtError:
        raise
    except Exception as exc:
        if _is_ours(entry):
            raise  # a bug of ours
        raise BackendUnavailableError(f"{entry.NAME} does not open: {type(exc).__name__}: {exc}") from exc


def _first(
    choices: Sequence[BackendEntry], threads: int | None, bundle: Bundle | None, *, is_auto: bool
) -> tuple[Backend | None, list[str]]:
    """The first that opens, and why those before it did not."""
    refused: dict[str, list[BackendEntry]] = {}
    for entry in choices:
        reason = _reason(entry, bundle) if len(choices) > 1 else None
        if reason is None:
            try:
                return try_open(entry, threads), _told(refused, is_auto)
            except EmoRtError as exc:
                reason = str(exc)
        if not (is_auto and entry in ORDINARY and entry is not LAST):  # that these are not taken is no news
            refused.setdefault(reason, []).append(entry)
    return None, _told(refused, is_auto)


def _reason(entry: BackendEntry, bundle: Bundle | None) -> str | None:
    """Why ``auto`` should not take it."""
    try:
        return entry.auto(bundle)
    except Exception as exc:
        if _is_ours(entry):
            raise
        return f"it does not say whether it can be used: {type(exc).__name__}: {exc}"


def _told(refused: dict[str, list[BackendEntry]], is_auto: bool) -> list[str]:
    """A reason that one of several has is told with its name; one that they share is of the device."""
    return [
        f"{by[0].NAME} on {by[0].DEVICE}: {reason}" if is_auto and len(by) == 1 and by[0] not in ORDINARY else reason
        for reason, by in refused.items()
    ]


def _no_choice(backend: str, device: str) -> str:
    broken = next((one for one in foreign_backends() if one.name == backend and one.entry is None), None)
    if broken is not None:
        return f"backend {backend!r} of {broken.source} cannot be used: {broken.problem}"
    others = " or ".join(sorted({repr(one.DEVICE) for one in entries() if backend == one.NAME}))
    return f"backend {backend!r} does not run on device {device!r}; use device {others} or 'auto'"
