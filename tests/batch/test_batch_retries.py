"""Errors that may pass: a really installed backend that fails as it is told, in the worker's process."""

from __future__ import annotations

from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.batch import Model, ledger, read_manifest, run_batch
from emo_rt.batch.journal import Journal
from emo_rt.batch.keys import Keys
from emo_rt.batch.process import WorkerProcess
from tests.batch.conftest import Manifest, events, results, row
from tests.moody import install


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the backend does at each solver step of any process, in words: ``fine``, or an error."""
    site, script = tmp_path / "site", tmp_path / "script"
    install(site, script)
    monkeypatch.syspath_prepend(site)  # a new process gets it, too
    monkeypatch.setattr(ledger, "BACK_OFF_S", (0.0, 0.0))
    return script


@pytest.mark.parametrize(
    ("told", "status", "error", "workers"),
    [
        ("NotFiniteError DeviceLostError fine", "ok", "", 2),  # a lost device takes a new process
        ("NotFiniteError NotFiniteError BackendError", "failed", "BackendError", 1),
    ],
)
def test_two_more_attempts(
    tiny_bundle: Bundle,
    manifest: Manifest,
    tmp_path: Path,
    script: Path,
    told: str,
    status: str,
    error: str,
    workers: int,
) -> None:
    script.write_text(told)
    out, model = tmp_path / "out", Model(str(tiny_bundle.path), device="cpu", backend="moody", threads=1)
    run_batch(manifest(row("a")), out, model=model)
    line = results(out)["a"]
    assert (line["status"], line["error_type"], line["attempts"]) == (status, error, 3)
    assert [event["event"] for event in events(out)][-6:] == ["attempt", "retry"] * 2 + ["attempt", "result"]
    assert len({event["worker"] for event in events(out) if event["event"] == "attempt"}) == workers
    assert script.read_text() == ""


def test_a_last_try_stays_alone_after_an_error_that_passes(
    tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path, script: Path
) -> None:
    """It has killed two workers: a neighbour must not be taken for the third."""
    script.write_text("BackendError fine")
    out, path = tmp_path / "out", manifest(row("a"), row("b"))
    out.mkdir()
    with Journal(out / "journal.jsonl") as journal:
        key = Keys(journal, tiny_bundle.sha256).key(read_manifest(path)[0])
        for _ in range(2):
            journal.begin(key, 1, alone=False)
            journal.died(key, -9)
    run_batch(path, out, model=Model(str(tiny_bundle.path), device="cpu", backend="moody", threads=1))
    tries = [event["alone"] for event in events(out) if event["event"] == "attempt" and event["key"] == key]
    assert tries == [False, False, True, True]


def test_ctrl_c_between_the_journal_and_the_worker(
    tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was begun, and no worker has it: it is not suspected of anything."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "give", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_batch(manifest(row("a")), tmp_path / "out", model=Model(str(tiny_bundle.path), device="cpu", threads=1))
    assert [event["event"] for event in events(tmp_path / "out")][-2:] == ["attempt", "stopped"]
