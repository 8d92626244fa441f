"""Who may import whom, what `import emo_rt` loads, and which names are public."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import emo_rt
from emo_rt import errors

ROOT = Path(__file__).resolve().parent.parent
BELOW = {"config", "settings", "graphs", "bundle", "errors", "version"}
"""Modules of the runtime that `export/` and `engines/` build on."""
ENGINES_ALSO = {"plans", "tensorrt_package", "gpus", "owned_files"}
"""What `engines/` shares with the runtime besides: who writes plans and who loads them must agree."""
COMMAND_ALSO = {"terminal"}
"""What their `command.py`, the part of a sub-command behind `cli.py`, may use besides."""
DRIVES_THE_RUNTIME = ROOT / "export" / "golden.py"
"""The parity command: it holds the runtime itself against vectors of the original, so it may use all of it."""
UPPER = ("export", "engines", "benchmarks")
"""Folders that install as `emo_rt.<folder>`."""
HEAVY = {"torch", "tensorrt", "tensorrt_rtx", "onnxruntime"}
TRAINING_ONLY = {"torch", "diffusers", "transformers", "safetensors", "onnxscript"}
"""Packages of `export/` and `training/`; benchmarks may compare with them."""

Import = tuple[str, bool]
"""Full name of what is imported, and whether that happens when the module is imported."""


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"there is no source in {folder}/"
    return found


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, down to the module (or name) that is asked for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(node) for scope in ast.walk(tree) if isinstance(scope, FUNCTIONS) for node in ast.walk(scope)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def part(name: str) -> str:
    """`emo_rt.model.bundle.Bundle` → `bundle`."""
    return name.split(".")[1]


def runtime_imports_upper(path: Path) -> list[str]:
    """Imports by which a file of the runtime breaks the rule."""
    upper = [(name, early) for name, early in imports(path) if name.startswith("emo_rt.") and part(name) in UPPER]
    lazy_allowed = path == ROOT / "emo_rt" / "cli.py"
    return [name for name, early in upper if early or not lazy_allowed]


@pytest.mark.parametrize("path", sources("emo_rt"), ids=lambda path: str(path.relative_to(ROOT)))
def test_runtime_imports_nothing_above_it(path: Path) -> None:
    assert runtime_imports_upper(path) == []
    foreign = {name.split(".")[0] for name, _ in imports(path)}
    assert not foreign & (TRAINING_ONLY | {"training", "tests", *UPPER})


@pytest.mark.parametrize("folder", ["export", "engines"])
def test_export_and_engines_build_on_the_contract(folder: str) -> None:
    wrong = []
    for path in sources(folder):
        if path == DRIVES_THE_RUNTIME:
            continue
        allowed = BELOW | {folder} | (COMMAND_ALSO if path == ROOT / folder / "command.py" else set())
        allowed |= ENGINES_ALSO if folder == "engines" else set()
        ours = [name for name, _ in imports(path) if name.split(".")[0] in ("emo_rt", "training", "tests", *UPPER)]
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in ours if not permitted(name, allowed)]
    assert wrong == []


def permitted(name: str, allowed: set[str]) -> bool:
    return name.startswith("emo_rt.") and part(name) in allowed


def test_benchmarks_use_no_private_names() -> None:
    wrong = []
    for path in sources("benchmarks"):
        names = [name for name, _ in imports(path) if name.split(".")[0] in ("emo_rt", "training", "tests", *UPPER)]
        if path.name == "quality.py":  # draws its own people, in a checkout only
            names = [name for name in names if name.split(".")[0] != "training"]
        wrong += [name for name in names if not name.startswith("emo_rt") or re.search(r"\._(?!_)", name)]
    assert wrong == []


def test_torch_lives_in_export_and_training_only() -> None:
    users = {path for folder in ("emo_rt", "engines") for path in sources(folder) if imports_torch(path)}
    assert users == set()


def imports_torch(path: Path) -> bool:
    return any(name.split(".")[0] == "torch" for name, _ in imports(path))


def test_walker_sees_imports_in_functions(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text("import a.b\ndef f():\n    from c import d, e\nclass C:\n    import g\n", encoding="utf-8")
    assert sorted(imports(file)) == [("a.b", True), ("c.d", False), ("c.e", False), ("g", True)]


def test_import_loads_no_backend() -> None:
    code = f"import sys, emo_rt; raise SystemExit(str({HEAVY!r} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_public_names() -> None:
    """What is in `__all__` is there, in order, once; and nothing else of the package is."""
    assert emo_rt.__all__ == sorted(set(emo_rt.__all__))
    visible = {name for name in vars(emo_rt) if not name.startswith("_") and not inspect.ismodule(vars(emo_rt)[name])}
    assert visible == set(emo_rt.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(set(emo_rt.__all__) - {"__version__"}))
def test_public_names_have_docstrings(name: str) -> None:
    thing = getattr(emo_rt, name)
    own = "__doc__" in vars(thing) and thing.__doc__
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{name} has only the docstring that dataclasses make"
    if inspect.isclass(thing):
        members = {key: member for key, member in vars(thing).items() if not key.startswith("_")}
        callables = {key: member for key, member in members.items() if inspect.isroutine(member) or is_property(member)}
        assert [key for key, member in callables.items() if not inspect.getdoc(member)] == []


def is_property(member: object) -> bool:
    return isinstance(member, property)


def test_every_error_is_public() -> None:
    assert error_classes() <= set(emo_rt.__all__)


def test_error_tree_in_the_docstring() -> None:
    """The drawing in `emo_rt.errors` shows each class below its parents."""
    drawn: dict[str, set[str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ├└─]*)([A-Z]\w+)(?: \((\w+)\))?(?:  |$)", line)
        if not found or not (line.startswith("    EmoRtError") or found[1]):
            continue
        depth = len(found[1]) // 4
        parents = {above[depth - 1]} if depth else {"Exception"}
        drawn[found[2]] = parents | ({found[3]} if found[3] else set())
        above[depth:] = [found[2]]
    assert drawn == {name: {base.__name__ for base in getattr(errors, name).__bases__} for name in error_classes()}


def error_classes() -> set[str]:
    return {
        name for name, thing in vars(errors).items() if inspect.isclass(thing) and thing.__module__ == errors.__name__
    }
