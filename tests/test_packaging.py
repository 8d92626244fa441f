"""The wheel: what is in it, what it says of itself, and that it runs from there."""

from __future__ import annotations

import email.message
import email.parser
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from emo_rt import __version__

ROOT = Path(__file__).resolve().parent.parent
INFO = f"emo_rt-{__version__}.dist-info/"
MAPPED = {"export": "emo_rt/export", "engines": "emo_rt/engines", "benchmarks": "emo_rt/benchmarks"}
ALLOWED = re.compile(
    r"emo_rt/([a-z_]+/)*[a-z0-9_]+\.py"
    r"|emo_rt_command\.py"
    r"|emo_rt/py\.typed"
    r"|emo_rt/assets/(README\.md|portrait\.png|voice\.flac)"
    r"|emo_rt/assets/demo/(emo_rt\.json|MODEL_CARD\.md|graphs/([a-z_]+\.onnx|[0-9a-f]{16}\.bin))"
    r"|emo_rt/assets/faces/(NOTICE|standard_face\.json|(detector|landmarks|blendshapes)\.onnx)"
    r"|emo_rt/assets/evaluate/report\.html"
    r"|emo_rt/serve/page/(portraits/)?[a-z0-9_.-]+\.(html|css|js|svg|webp|png)"
    rf"|{re.escape(INFO)}(METADATA|RECORD|WHEEL|entry_points\.txt|top_level\.txt|licenses/LICENSE)"
)
"""Every name that a wheel may hold."""


def run(*arguments: str | Path, **settings: object) -> str:
    """Run Python; its output. A failure shows both streams."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network from a copy: a build leaves folders behind."""
    pytest.importorskip("setuptools", reason="building needs setuptools")
    out = tmp_path_factory.mktemp("wheel")
    copy = out / "checkout"
    for path in product_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out, copy)
    (built,) = out.glob("*.whl")
    return built


def product_files() -> list[Path]:
    """All of the checkout that has a say in the build, tests and training too: they must not get in."""
    top = [ROOT / name for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE")]
    folders = ("emo_rt", "tests", "training", *MAPPED)
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return top + [path for path in found if "__pycache__" not in path.parts and "egg-info" not in str(path)]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.parser.Parser().parsestr(archive.read(f"{INFO}METADATA").decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `emo_rt` is the installed wheel, not this checkout."""
    site = tmp_path_factory.mktemp("site")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    return {**os.environ, "PYTHONPATH": str(site)}


def test_name(wheel: Path) -> None:
    assert wheel.name == f"emo_rt-{__version__}-py3-none-any.whl"


def test_nothing_unexpected_is_in_the_wheel(wheel: Path) -> None:
    assert [name for name in names(wheel) if not ALLOWED.fullmatch(name)] == []


def test_everything_expected_is_in_the_wheel(wheel: Path) -> None:
    """Each source file of the product under its import name, and all assets."""
    expected = {path.relative_to(ROOT).as_posix() for path in product_files() if path.is_relative_to(ROOT / "emo_rt")}
    for folder, place in MAPPED.items():
        expected |= {f"{place}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
    assert {name for name in names(wheel) if name.startswith("emo_rt/")} == expected
    assert {f"{place}/__init__.py" for place in MAPPED.values()} <= expected


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "emo_rt"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras())
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


def test_core_needs_no_backend(metadata: email.message.Message) -> None:
    """ONNX Runtime, in its two forms, is an extra; torch is one of export and of those that contain it."""
    needs = metadata.get_all("Requires-Dist", [])
    core = {re.split(r"[<>=\[;~! ]", need)[0] for need in needs if "extra ==" not in need}
    assert core == {"numpy", "av", "pillow"}
    assert {extra(need) for need in needs if need.startswith("torch")} == {"export", "dev"}
    assert not [need for need in needs if need.startswith("onnxruntime-gpu") and extra(need) != "gpu"]


def extra(need: str) -> str:
    found = re.search(r"extra == ['\"]([\w-]+)['\"]", need)
    assert found, need
    return found[1]


def test_licence_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{INFO}licenses/LICENSE").decode()
    assert "Apache License\n" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_entry_point(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{INFO}entry_points.txt").decode()
    assert text.split() == ["[console_scripts]", "emo-rt", "=", "emo_rt_command:main"]


def extras() -> dict[str, list[str]]:
    """Each extra with what it needs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return found


def resolved(name: str) -> set[str]:
    """What an extra needs, and what the extras that it names need."""
    needs = set(extras()[name])
    inner = {extra for need in needs for names in re.findall(r"^emo_rt\[(.*)\]$", need) for extra in names.split(",")}
    return needs.union(*map(resolved, inner))


def test_dev_pins_the_torch_that_the_tests_run_with() -> None:
    """One resolver run installs everything: the pin of torch is in `dev` itself."""
    (pin,) = (need for need in extras()["dev"] if need.startswith("torch"))
    assert pin == f"torch=={importlib.metadata.version('torch').split('+')[0]}"


APART = {"gpu", "tensorrt", "dev", "livekit", "pipecat", "webrtc", "ray"}
"""Extras with an environment of their own, or a machine."""


@pytest.mark.parametrize("name", sorted(set(extras()) - APART))
def test_dev_holds_every_extra_that_runs_without_a_gpu(name: str) -> None:
    packages = {re.split(r"[<>=\[; ]", need)[0] for need in resolved(name)}
    assert packages <= {re.split(r"[<>=\[; ]", need)[0] for need in resolved("dev")}


def test_dev_has_what_drives_a_gpu() -> None:
    """`cuda.core` installs and imports without one; tests hold our stand-ins against it."""
    wanted = {need for need in resolved("gpu") if need.startswith("cuda-")}
    assert wanted
    assert wanted <= resolved("dev")


@pytest.mark.parametrize("name", ["gpu", "tensorrt", "tensorrt-rtx"])
def test_every_gpu_extra_holds_what_drives_a_gpu(name: str) -> None:
    assert set(extras()["cuda"]) <= resolved(name)


def test_no_extra_brings_a_second_onnxruntime() -> None:
    """The packages onnxruntime and onnxruntime-gpu own the same folder, so an extra that goes with both has neither."""
    for name in ("gpu", "export", "cuda", "tensorrt", "tensorrt-rtx", "openvino"):
        assert not [need for need in resolved(name) if re.match(r"onnxruntime[>=]", need)]


def test_onnxruntime_gpu_comes_with_cublas_and_cudnn() -> None:
    """Its extra `cuda` leaves out cuBLAS, which its extra `cudnn` brings."""
    (need,) = (need for need in extras()["gpu"] if need.startswith("onnxruntime-gpu"))
    assert need.startswith("onnxruntime-gpu[cuda,cudnn]")


def test_installed_wheel_runs(installed: dict[str, str], tmp_path: Path) -> None:
    where = run("-c", "import emo_rt; print(emo_rt.__file__)", env=installed, cwd=tmp_path).strip()
    assert where.startswith(installed["PYTHONPATH"])
    version = run("-m", "emo_rt.cli", "--version", env=installed, cwd=tmp_path)
    assert version == f"emo-rt {__version__}\n"
    assert "every hash verified" in run("-m", "emo_rt.cli", "info", "demo", env=installed, cwd=tmp_path)


def test_installed_wheel_has_the_mapped_folders(installed: dict[str, str], tmp_path: Path) -> None:
    code = "import emo_rt.export, emo_rt.engines, emo_rt.benchmarks; print(emo_rt.export.__file__)"
    assert run("-c", code, env=installed, cwd=tmp_path).startswith(installed["PYTHONPATH"])
