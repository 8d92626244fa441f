"""Who may import whom, what `import emo_rt` loads, and which names are public."""

from __future__ import annotations

import ast
import graphlib
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import emo_rt
from emo_rt import errors

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "integrations": "integrations",
    "cli": "cli",
    "serve": "serve",
    "evaluate": "evaluate",
    "batch": "batch",
    "the face": "__init__ animator",
    "runtime": "runtime",
    "faces": "faces",
    "device": "device",
    "device/cuda": "device.cuda",
    "model": "model",
    "media": "media",
    "the ground floor": "checks errors files memory processes schema telemetry version",
}
"""The rooms of `emo_rt/`, from the top down, with their modules or folders. A room imports only from rooms under it."""
MOST_FLOORS = 9
"""Most rooms that may stand upon each other."""
ABOVE = {
    "export": ("model", "media", "the ground floor"),
    "engines": ("device.tensorrt", "model", "media", "the ground floor"),
}
"""What `export/` and `engines/` build on: rooms, or a folder of one. Who writes plans and who loads them must agree."""
ALSO = {
    "export/command.py": ("cli.terminal",),
    "engines/command.py": ("cli.terminal",),
    "export/golden.py": ("runtime", "device"),
    "export/golden_echomimic.py": ("runtime", "device"),
}
"""What single files use besides: the parts of sub-commands behind `cli/`, and the parity command, which holds the
runtime itself against vectors of the original."""
UPPER = ("export", "engines", "benchmarks")
"""Folders that install as `emo_rt.<folder>`. Only `cli/` may import them, inside functions."""
HEAVY = {"av", "torch", "tensorrt", "tensorrt_rtx", "onnxruntime", "openvino"}
TRAINING_ONLY = {"torch", "diffusers", "transformers", "safetensors", "onnxscript"}
"""Packages of `export/` and `training/`; benchmarks may compare with them."""
NOT_FOR_USERS = {"Avatar": {"model", "paster"}}
"""Attributes that the runtime alone uses; their documentation says so."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Import = tuple[str, bool]
"""Full name of what is imported, and whether that happens when the module is imported."""


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"there is no source in {folder}/"
    return found


@cache
def imports(path: Path, *, as_program: bool = True) -> tuple[Import, ...]:
    """Every import of a file, down to the module (or name) that is asked for; those inside functions, too."""
    return tuple(_imports(path, as_program))


@cache
def parsed(path: Path) -> tuple[ast.stmt, ...]:
    return tuple(ast.parse(path.read_text(encoding="utf-8")).body)


def _imports(path: Path, as_program: bool) -> Iterator[Import]:
    for statement in parsed(path):
        is_program = isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
        if as_program or not is_program:
            yield from _in_statements(statement, path, is_early=True)


def _in_statements(node: ast.AST, path: Path, is_early: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, is_early) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path}: imports are absolute"
        yield from ((f"{node.module}.{alias.name}", is_early) for alias in node.names)
    elif not isinstance(node, ast.expr):  # an expression holds no import
        for child in ast.iter_child_nodes(node):
            yield from _in_statements(child, path, is_early and not isinstance(node, FUNCTIONS))


def module_name(path: Path) -> str:
    """`emo_rt/model/bundle.py` → `emo_rt.model.bundle`, `export/golden.py` → `emo_rt.export.golden`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "emo_rt" else ("emo_rt", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of ours, and its file."""
    return {module_name(path): path for folder in ("emo_rt", *UPPER) for path in sources(folder)}


def modules_of(path: Path) -> set[str]:
    """Our modules that a file imports, as a module and not as the program that `python -m` makes of it."""
    found = set()
    for name, _ in imports(path, as_program=False):
        module = name if name in modules() else name.rpartition(".")[0]
        found |= {module} & modules().keys()
    return found


@cache
def arrows() -> dict[str, set[str]]:
    """Module → the modules that it imports."""
    return {module: modules_of(path) - {module} for module, path in modules().items()}


@cache
def room(module: str) -> str:
    """The room of a module; folders beside `emo_rt/` are named as they are."""
    inside = module.removeprefix("emo_rt.") if module != "emo_rt" else "__init__"
    homes = {folder: name for name, folders in ROOMS.items() for folder in folders.split()}
    homes |= {folder: folder for folder in UPPER}
    fitting = [folder for folder in homes if f"{inside}.".startswith(f"{folder}.")]
    assert fitting, f"{module} is in no room of the table; give it one, or add a room"
    return homes[max(fitting, key=len)]


def is_in(module: str, places: Iterable[str]) -> bool:
    """Whether a module is in one of these rooms or folders."""
    return any(room(module) == place or f"{module}.".startswith(f"emo_rt.{place}.") for place in places)


@pytest.mark.parametrize("here", ROOMS)
def test_a_room_imports_only_from_rooms_under_it(here: str) -> None:
    names = list(ROOMS)
    allowed = {here, *names[names.index(here) + 1 :], *(UPPER if here == "cli" else ())}
    inside = [module for module in modules() if room(module) == here]
    wrong = [(module, target) for module in inside for target in arrows()[module] if room(target) not in allowed]
    assert inside
    assert wrong == []


def test_runtime_imports_nothing_of_training() -> None:
    barred = TRAINING_ONLY | {"training", "tests", *UPPER}
    found = [(path, name, is_early) for path in sources("emo_rt") for name, is_early in imports(path)]
    assert [(path, name) for path, name, _ in found if name.split(".")[0] in barred] == []
    early = [(path, name) for path, name, is_early in found if is_early and name.split(".")[1:2] and is_upper(name)]
    assert early == [], "export, engines and benchmarks are imported inside functions"


def is_upper(name: str) -> bool:
    return name.startswith("emo_rt.") and name.split(".")[1] in UPPER


def test_no_module_imports_itself_in_a_circle() -> None:
    graphlib.TopologicalSorter(arrows()).prepare()  # raises CycleError, which names the circle


def test_the_house_is_not_too_high() -> None:
    assert floors() <= MOST_FLOORS


def floors() -> int:
    """Rooms in the longest chain of arrows between rooms."""
    below: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module, targets in arrows().items():
        if room(module) in ROOMS:
            below[room(module)] |= {room(target) for target in targets} & ROOMS.keys() - {room(module)}
    height: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(below).static_order():
        height[name] = 1 + max((height[under] for under in below[name]), default=0)
    return max(height.values())


def test_every_room_is_there() -> None:
    assert {room(module) for module in modules()} == {*ROOMS, *UPPER}


@pytest.mark.parametrize("folder", ABOVE)
def test_export_and_engines_build_on_the_contract(folder: str) -> None:
    wrong = []
    for path in sources(folder):
        name = path.relative_to(ROOT).as_posix()
        allowed = (folder, *ABOVE[folder], *ALSO.get(name, ()))
        wrong += [(name, target) for target in sorted(modules_of(path)) if not is_in(target, allowed)]
        wrong += [(name, one) for one, _ in imports(path) if one.split(".")[0] in ("training", "tests", *UPPER)]
    assert wrong == []


def test_benchmarks_use_no_private_names() -> None:
    wrong = []
    for path in sources("benchmarks"):
        names = [name for name, _ in imports(path) if name.split(".")[0] in ("emo_rt", "training", "tests", *UPPER)]
        if path.name in ("quality.py", "quality_people.py"):  # its own people are drawn, in a checkout only
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
    own = (inspect.isfunction(thing) or "__doc__" in vars(thing)) and thing.__doc__
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{name} has only the docstring that dataclasses make"
    if inspect.isclass(thing):
        members = {key: member for key, member in vars(thing).items() if not key.startswith("_")}
        callables = {key: member for key, member in members.items() if inspect.isroutine(member) or is_property(member)}
        assert [key for key, member in callables.items() if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("name", ["Animator", "Avatar", "Chunk", "Estimate", "Face", "Progress", "RunStats", "Video"])
def test_public_attributes_have_public_types(name: str) -> None:
    thing = getattr(emo_rt, name)
    public = {getattr(emo_rt, other) for other in emo_rt.__all__}
    hints = typing.get_type_hints(thing)
    getters = {key: member.fget for key, member in vars(thing).items() if is_property(member)}
    hints |= {key: typing.get_type_hints(getter)["return"] for key, getter in getters.items()}
    found = {(key, part) for key, hint in hints.items() if not key.startswith("_") for part in parts(hint)}
    private = {key for key, part in found if part.__module__.startswith("emo_rt") and part not in public}
    assert private <= NOT_FOR_USERS.get(name, set())


def parts(hint: object) -> Iterator[type]:
    """The classes that a type hint names."""
    arguments = [typing.get_origin(hint), *typing.get_args(hint)]
    for one in [*arguments, hint]:
        if inspect.isclass(one) and not isinstance(one, types.GenericAlias):
            yield one
        elif one is not hint and one is not None:
            yield from parts(one)


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
