"""What the journal remembers, also of writers that were killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emo_rt import OutputError
from emo_rt.batch.journal import Journal, ResultsFile
from emo_rt.batch.keys import Keys
from emo_rt.batch.manifest import read_manifest
from emo_rt.batch.result import RowResult
from tests.batch.conftest import Manifest, row, write_voice

OK = RowResult(id="a", row=1, key="a-1", status="ok", output="videos/a-1.mp4", versions={"emo_rt": "0"}, mark=True)


def test_a_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin("a-1", 5, alone=False)
        journal.end(OK)
    with Journal(tmp_path / "j") as journal:
        assert (journal.row("a-1").result, journal.row("a-1").attempts) == (OK, 1)
        assert not journal.row("a-1").must_be_alone


def test_an_attempt_that_ended_with_the_driver_does_not_count_but_the_next_runs_alone(tmp_path: Path) -> None:
    for run in range(6):
        with Journal(tmp_path / "j") as journal:
            found = journal.row("a-1")
            assert (found.deaths, found.must_be_alone) == (0, run > 0)
            journal.begin("a-1", 5, alone=False)


def test_alone_it_counts(tmp_path: Path) -> None:
    for deaths in range(4):
        with Journal(tmp_path / "j") as journal:
            found = journal.row("a-1")
            assert (found.deaths, found.is_poisoned) == (deaths, deaths == 3)
            journal.begin("a-1", 5, alone=True)


def test_a_row_that_killed_two_workers_gets_its_last_chance_alone(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for deaths in (1, 2, 3):
            journal.begin("a-1", 5, alone=False)
            journal.died("a-1", -9)
            found = journal.row("a-1")
            assert (found.must_be_alone, found.is_poisoned) == (deaths == 2, deaths == 3)


def test_what_the_driver_stopped_is_nobodys_fault(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin("a-1", 5, alone=False)
        journal.stopped("a-1")
    with Journal(tmp_path / "j") as journal:
        assert (journal.row("a-1").deaths, journal.row("a-1").must_be_alone) == (0, False)


def test_a_suspect_that_was_stopped_stays_one(tmp_path: Path) -> None:
    for _ in range(2):
        with Journal(tmp_path / "j") as journal:
            journal.begin("a-1", 5, alone=False)
    with Journal(tmp_path / "j") as journal:
        journal.begin("a-1", 5, alone=True)
        journal.stopped("a-1")
        assert journal.row("a-1").must_be_alone


def test_again_forgets(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin("a-1", 5, alone=False)
        journal.retry("a-1", "busy")
        journal.end(OK)
        journal.again("a-1")
    with Journal(tmp_path / "j") as journal:
        found = journal.row("a-1")
        assert (found.attempts, found.errors, found.result) == (0, 0, None)


@pytest.mark.parametrize("cut", [1, 2, 30, 60])
def test_a_torn_line_is_left_out_and_ends(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin("a-1", 5, alone=False)
        journal.end(OK)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path) as journal:
        assert (journal.row("a-1").result is None) == (cut > 1), "only the line's end may be missing"
        journal.end(OK)
    with Journal(path) as journal:
        assert journal.row("a-1").result == OK


def test_results_start_anew_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("old\n")
    file = ResultsFile(tmp_path / "r", [OK])
    file.add(OK)
    file.close()
    assert (tmp_path / "r").read_text().count("videos/a-1.mp4") == 2
    assert "old" not in (tmp_path / "r").read_text()


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "none" / "j")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_one_error_and_closing_none(tmp_path: Path) -> None:
    """What could not be written is tried again as the file is closed, and must not hide why the run ended."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal, results = Journal(tmp_path / "j"), ResultsFile(tmp_path / "r", [])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(OutputError, match="cannot be written"):
            journal.end(OK)
        with pytest.raises(OutputError, match="cannot be written"):
            results.add(OK)
        journal.close()
        results.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Journal(tmp_path / "j") as journal:
        assert journal.row("a-1").result is None


def test_lines_of_another_version_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j"
    path.write_text('{}\n{"event": "attempt"}\n{"event": "result", "key": "a-1", "result": {"colour": "red"}}\n')
    with Journal(path) as journal:
        assert journal.row("a-1").result is None
        journal.end(OK)
    with Journal(path) as journal:
        assert journal.row("a-1").result == OK
    assert len(caplog.messages) == 6


def keys(path: Path, journal: Path, bundle: str = "m") -> dict[str, str]:
    with Journal(journal) as opened:
        made = Keys(opened, bundle)
        return {found.id: made.key(found) for found in read_manifest(path)}


def test_a_name_is_that_of_its_content(manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    path = manifest(row("a"), row("b/ö"), row("b_"))
    first = keys(path, tmp_path / "j")
    assert all(name.isascii() and "/" not in name for name in first.values())
    assert len(set(first.values())) == 3
    assert keys(path, tmp_path / "j") == keys(path, tmp_path / "other") == first
    assert keys(path, tmp_path / "j", "another model")["a"] != first["a"]
    assert keys(manifest(row("a", seed=8)), tmp_path / "j")["a"] != first["a"]
    write_voice(inputs / "short.wav", 0.2, seed=9)
    assert keys(path, tmp_path / "j")["a"] != first["a"]


def test_a_file_in_an_option_counts_by_its_content(manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    path = manifest(row("a", landmarks="l.npy"))
    seen = set()
    for content in (None, b"1", b"22"):
        if content:
            (inputs / "l.npy").write_bytes(content)
        seen.add(keys(path, tmp_path / "j")["a"])
    assert len(seen) == 3


def test_portraits_are_shared_by_content_and_options(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest(row("a"), row("b", voice="long.wav", seed=3), row("c", portrait="b.png"), row("d", max_side=64))
    with Journal(tmp_path / "j") as journal:
        made = Keys(journal, "m")
        a, b, c, d = (made.portrait(found) for found in read_manifest(path))
    assert a == b
    assert len({a, c, d}) == 3
