"""How a plan gets to disk: never half, and never without the sidecar that vouches for it.

The plan's file name contains its hash and the sidecar's does not. So a rebuild writes a new plan, then replaces the
sidecar in one step, then removes the old plan: at every moment the sidecar vouches for a whole plan.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from emo_rt.device.tensorrt.owned_files import OwnedFolder, write_owned
from emo_rt.device.tensorrt.plan import Plan, PlanKey, PlanRecord, plans_in
from emo_rt.errors import OutputError
from emo_rt.files import PART, put_in_place

SIDECAR, PLAN = ".json", ".plan"
"""Ends of file names."""
DIGITS = 12
"""Of the hash, in the plan's file name."""


def make_folder(folder: Path) -> None:
    """Create the engines' folder so that only its owner can write. Raises :class:`OutputError`, and
    :class:`EngineIntegrityError` for one that others can write."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)  # whatever the umask lets through
        OwnedFolder(folder).close()
    except OSError as exc:
        reason = f"cannot write engines to {folder}: {exc.strerror}"
        raise OutputError(f"{reason}; pass another folder with --cache") from exc


def plan_for(folder: Path, key: PlanKey) -> Plan | None:
    """The plan that a build for ``key`` would replace; an unreadable one counts as none."""
    return next((plan for plan in plans_in(folder) if plan.record.key.stem == key.stem), None)


def plan_file(key: PlanKey, sha256: str) -> str:
    """File name of a plan."""
    return f"{key.stem}.{sha256[:DIGITS]}{PLAN}"


def scratch_file(folder: Path, key: PlanKey) -> Path:
    """Where a plan is written before it has a name; nothing is there."""
    path = folder / f".{key.stem}{PLAN}{PART}"
    path.unlink(missing_ok=True)
    return path


def put_plan(folder: Path, record: PlanRecord, scratch: Path) -> Plan:
    """Put a written plan and its sidecar in place. Raises :class:`OutputError`; then the old ones are still whole."""
    try:
        scratch.chmod(0o644)  # whatever the umask lets through
        put_in_place(scratch, folder / record.file)
        write_owned(folder / f"{record.key.stem}{SIDECAR}", record.to_json().encode(), 0o644)
    except OSError as exc:
        raise OutputError(f"cannot write {folder / record.file}: {exc.strerror}") from exc
    sweep(folder, record)
    return Plan(folder, record)


def sweep(folder: Path, record: PlanRecord) -> None:
    """Remove earlier plans of the same name with what lies beside them (compiled kernels), and what a killed build
    left. Only with the lock."""
    kept = (record.file.removesuffix(PLAN), f"{record.key.stem}{SIDECAR}")
    old = [path for path in folder.glob(f"{record.key.stem}.*") if not path.name.startswith(kept)]
    for path in [*old, *folder.glob(f".*{PART}")]:
        with contextlib.suppress(OSError):
            path.unlink()
