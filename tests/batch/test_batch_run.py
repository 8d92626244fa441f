"""A whole run, and the runs after it."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Animator, BackendError, Bundle, BundleError, ConfigError, OutputError, Request
from emo_rt.batch import Model, Progress, read_manifest, run_batch
from emo_rt.batch.faults import is_storage_full, is_transient
from emo_rt.batch.runner import shared_out
from emo_rt.batch.task import Task
from emo_rt.batch.worker import RowMaker
from emo_rt.cli import main
from emo_rt.errors import BackendUnavailableError, DeviceLostError, InputError, NotFiniteError
from emo_rt.files import sha256_of
from emo_rt.media.video_file import probe
from tests.batch.conftest import Manifest, events, results, row

FACTS = {
    "id", "row", "key", "status", "output", "sha256", "error_type", "error", "attempts", "frames", "seconds", "wall_s",
    "device", "bundle", "options", "versions", "mark",
}  # fmt: skip
"""What every line of results has."""


def model(bundle: Bundle) -> Model:
    return Model(str(bundle.path), device="cpu", threads=1)


def test_a_run_and_the_next_ones(
    tiny_bundle: Bundle, tiny_animator: Animator, manifest: Manifest, tmp_path: Path
) -> None:
    """Bad rows fail alone; videos are those of the SDK; what is done is skipped; a changed row is made anew."""
    out, seen = tmp_path / "out", []
    rows = [row("a"), row("b", voice="long.wav"), row("gone", portrait="none.png"), row("bad", steps=0)]
    first = run_batch(manifest(*rows), out, model=model(tiny_bundle), workers=2, progress=seen.append)
    assert (first.made, first.failed, first.poisoned, first.skipped, first.left) == (2, 2, 0, 0, 0)
    assert seen[-1] == Progress(done=4, total=4, failed=2, running=0)
    found = results(out)
    assert {name: (line["status"], line["error_type"]) for name, line in found.items()} == {
        "a": ("ok", ""),
        "b": ("ok", ""),
        "gone": ("failed", "PortraitError"),
        "bad": ("failed", "ConfigError"),
    }
    assert {frozenset(line) for line in found.values()} == {frozenset(FACTS)}
    check_videos(found, out, tiny_animator, manifest(*rows).parent)

    changed = [row("a"), row("b", voice="long.wav", seed=5), *rows[2:]]
    second = run_batch(manifest(*changed), out, model=model(tiny_bundle))
    assert (second.made, second.failed, second.skipped, second.skipped_bad) == (1, 0, 3, 2)
    later = results(out)
    assert {name for name in found if later[name] != found[name]} == {"b"}
    assert main(["batch", str(manifest(*changed)), "-o", str(out), "--bundle", str(tiny_bundle.path)]) == 1
    assert results(out) == later, "a run with nothing to do changes nothing"


def check_videos(found: dict[str, Any], out: Path, animator: Animator, inputs: Path) -> None:
    """Each is the file that the SDK writes of the same request, byte for byte."""
    for name in ("a", "b"):
        line, video = found[name], out / found[name]["output"]
        assert (sha256_of(video), probe(video).frames) == (line["sha256"], line["frames"])
        assert (line["attempts"], line["bundle"], line["mark"]) == (1, animator.bundle.sha256, True)
    request = Request.from_dict({k: v for k, v in row("a").items() if k != "id"})
    with animator.prepare(inputs / "a.png", options=request.prepare) as avatar:
        animator.animate(avatar, inputs / "short.wav", options=request.animate).save(inputs / "a.mp4")
    assert sha256_of(inputs / "a.mp4") == found["a"]["sha256"]
    assert found["a"]["options"] == request.digest()


def test_failed_rows_run_again_where_that_is_asked_for(
    tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a worker: a row that cannot be read needs none."""
    path, out = manifest("{oops", row("bad", steps=0)), tmp_path / "out"
    line = ["batch", str(path), "-o", str(out), "--bundle", str(tiny_bundle.path)]
    assert main(line) == 1
    assert "0 made, 2 failed in" in capsys.readouterr().out
    assert main(line) == 1
    assert "skipped, since they had ended before: 2, 2 of them not ok" in capsys.readouterr().out
    assert main([*line, "--retry-failed"]) == 1
    assert "0 made, 2 failed in" in capsys.readouterr().out
    assert [event["event"] for event in events(out)] == ["result"] * 2 + ["again"] * 2 + ["result"] * 2
    assert len(results(out)) == 2


def test_a_model_that_cannot_be_loaded_is_no_rows_fault(
    tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(BundleError):
        run_batch(manifest(row("a")), tmp_path / "out", model=Model(str(tmp_path / "none")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(BackendError, match="cuda"):
        run_batch(manifest(row("a")), tmp_path / "out", model=Model(str(tiny_bundle.path), device="cuda"))
    assert [event["event"] for event in events(tmp_path / "out")] == ["input", "input"]


def test_one_driver_at_a_time(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    def meddle(_: Progress) -> None:
        with pytest.raises(OutputError, match="another batch is writing"):
            run_batch(manifest("{oops", name="other.jsonl"), tmp_path / "out", model=model(tiny_bundle))
        seen.append(True)

    seen: list[bool] = []
    run_batch(manifest("{oops"), tmp_path / "out", model=model(tiny_bundle), progress=meddle)
    assert seen
    run_batch(manifest("{oops"), tmp_path / "out", model=model(tiny_bundle))


def test_a_stop_leaves_rows_for_the_next_run(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    done = run_batch(manifest(row("a"), "{oops"), tmp_path / "out", model=model(tiny_bundle), stop=stop)
    assert (done.made, done.failed, done.left) == (0, 1, 1)
    assert set(results(tmp_path / "out")) == {"row 2"}


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_workers_that_cannot_be(manifest: Manifest, tmp_path: Path, workers: Any) -> None:
    with pytest.raises(ConfigError, match="workers is"):
        run_batch(manifest(row("a")), tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [shared_out(Model(), workers).threads for workers in (1, 2, 3, 20)] == [None, 4, 2, 1]
    assert shared_out(Model(threads=7), 2).threads == 7


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "transient", "full"),
    [
        (DeviceLostError(), True, False),
        (NotFiniteError(), True, False),
        (BackendUnavailableError(), False, False),
        (InputError(), False, False),
        (caused(InputError(), OSError(errno.ESTALE, "stale")), True, False),
        (caused(OutputError(), OSError(errno.ENOSPC, "full")), False, True),
        (caused(OutputError(), caused(ValueError(), OSError(errno.EFBIG, "large"))), False, True),
        (OSError(errno.ENOENT, "none"), False, False),
        (MemoryError(), True, False),
    ],
)
def test_which_errors_pass(error: Exception, transient: bool, full: bool) -> None:
    assert (is_transient(error), is_storage_full(error)) == (transient, full)


def test_rows_of_one_portrait_prepare_it_once(
    tiny_animator: Animator, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it cannot be used."""
    prepared = []

    def prepare(picture: Any, **settings: Any) -> Any:
        prepared.append(Path(picture).name)
        return Animator.prepare(tiny_animator, picture, **settings)

    monkeypatch.setattr(tiny_animator, "prepare", prepare)
    maker = RowMaker(tiny_animator)
    for number, portrait in enumerate(["a.png", "a.png", "none.png", "none.png", "b.png"]):
        fields = row("x", portrait=str(inputs / portrait), voice=str(inputs / "short.wav"))
        del fields["id"]
        done = maker.make(Task(f"{number}", fields, portrait, str(inputs / f"{number}.mp4")))
        assert done.error_type == ("PortraitError" if portrait == "none.png" else "")
    assert prepared == ["a.png", "none.png", "b.png"]
    maker.close()


def test_parquet_in_and_out(tiny_bundle: Bundle, inputs: Path, tmp_path: Path) -> None:
    """Without a worker: the rows are bad, or are not run."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra batch")
    from pyarrow import parquet

    options = [json.dumps({"face_box": "full", "steps": 3}), json.dumps({"steps": 0}), None]
    columns = {"id": [7, 8, 9], "portrait": ["a.png"] * 3, "voice": ["v.wav", "v.wav", None], "options": options}
    parquet.write_table(pyarrow.table(columns), inputs / "rows.parquet")
    good, *bad = read_manifest(inputs / "rows.parquet")
    assert (good.id, Request.from_dict(good.fields).animate.steps, good.error) == ("7", 3, None)
    assert ["steps is 0" in str(bad[0].error), "voice" in str(bad[1].error)] == [True, True]
    run_batch(bad, tmp_path / "out", model=model(tiny_bundle), parquet=True)
    table = parquet.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    lines = results(tmp_path / "out")
    assert [found | {"versions": json.loads(found["versions"])} for found in table] == [lines["8"], lines["9"]]


def test_a_file_that_is_no_table(tiny_bundle: Bundle, inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs the extra batch")
    (inputs / "rows.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="no Parquet table"):
        run_batch(inputs / "rows.parquet", tmp_path / "out", model=model(tiny_bundle))
