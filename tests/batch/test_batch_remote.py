"""Inputs and outputs by URL: with fsspec's own local and memory file systems."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Animator, Bundle, InputError, MissingDependencyError, OutputError
from emo_rt.batch import Model, read_manifest, run_batch
from emo_rt.batch.faults import is_transient
from emo_rt.batch.journal import JOURNAL, Journal
from emo_rt.batch.keys import Keys
from emo_rt.batch.remote import Remote, fetched
from emo_rt.batch.remote_folder import RemoteFolder, cache_of
from emo_rt.batch.task import Task
from emo_rt.batch.worker import RowMaker
from emo_rt.files import sha256_of
from tests.batch.conftest import Manifest, results, row

fsspec = pytest.importorskip("fsspec", reason="URLs need the extra remote")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(inputs: Path) -> str:
    """The inputs in memory."""
    files = fsspec.filesystem("memory")  # one for the whole process
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)
    files.put(str(inputs), "/bucket", recursive=True)
    return "memory://bucket"


def urls(base: str) -> dict[str, str]:
    return {"portrait": f"{base}/a.png", "voice": f"{base}/short.wav"}


def test_a_list_in_a_store_names_files_beside_it(store: str) -> None:
    rows = [row("a"), row("b", **urls("memory://elsewhere")), row("c", portrait="/here/a.png")]
    with fsspec.open(f"{store}/rows.jsonl", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    a, b, c = read_manifest(f"{store}/rows.jsonl")
    assert (a.fields["portrait"], a.fields["voice"]) == (f"{store}/a.png", f"{store}/short.wav")
    assert b.fields["portrait"] == "memory://elsewhere/a.png"
    assert c.fields["portrait"] == "/here/a.png"
    with pytest.raises(InputError, match=r"memory://bucket/none\.jsonl cannot be read"):
        read_manifest(f"{store}/none.jsonl")


def test_a_name_changes_with_the_file_in_the_store(store: str, manifest: Manifest, tmp_path: Path) -> None:
    found = read_manifest(manifest(row("a", **urls(store))))[0]
    seen = set()
    with Journal(tmp_path / "j") as journal:
        for content in (None, b"another"):
            if content is not None:
                with fsspec.open(f"{store}/short.wav", "wb") as file:
                    file.write(content)
            seen.add(Keys(journal, "m").key(found))
            assert Keys(journal, "m").key(found) in seen, "the same while it is the same"
    assert len(seen) == 2


def test_a_worker_reads_and_writes_a_store(tiny_animator: Animator, store: str, inputs: Path) -> None:
    """The same video as from files; nothing else is left there."""
    fields = {name: value for name, value in row("a").items() if name != "id"}
    here = {name: str(inputs / Path(url).name) for name, url in urls(store).items()}
    tasks = [
        Task("here", fields | here, "p", str(inputs / "a.mp4")),
        Task("there", fields | urls(store), "q", f"{store}/out/a.mp4"),
        Task("again", fields | urls(store), "q", f"{store}/out/b.mp4"),
        Task("gone", fields | urls(f"{store}/none"), "r", f"{store}/out/c.mp4"),
    ]
    maker = RowMaker(tiny_animator)
    done = {task.key: maker.make(task) for task in tasks}
    maker.close()
    assert done["here"].sha256 == done["there"].sha256 == done["again"].sha256 == sha256_of(inputs / "a.mp4")
    assert (done["gone"].error_type, done["gone"].is_transient) == ("InputError", False)
    assert Remote(f"{store}/out").names() == {"a.mp4", "b.mp4"}


def test_a_run_into_a_store_goes_on_on_another_machine(
    tiny_bundle: Bundle, manifest: Manifest, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``file://``, since workers are processes of their own. The other machine has another cache, and the copy."""
    out, model = f"file://{tmp_path}/store/out", Model(str(tiny_bundle.path), device="cpu", threads=1)
    path = manifest(row("a", **urls(f"file://{inputs}")), row("bad", **urls("file:///none")), name="rows.jsonl")
    done = run_batch(path, out, model=model)
    assert (done.made, done.failed) == (1, 1)
    there = tmp_path / "store" / "out"
    found = results(there)
    assert {name: line["status"] for name, line in found.items()} == {"a": "ok", "bad": "failed"}
    assert sha256_of(there / found["a"]["output"]) == found["a"]["sha256"]
    assert [video.name for video in (there / "videos").iterdir()] == [Path(found["a"]["output"]).name]
    assert run_batch(path, out, model=model).skipped == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert run_batch(path, out, model=model).skipped == 2
    assert cache_of(out).is_relative_to(tmp_path / "another")
    (there / found["a"]["output"]).unlink()
    assert run_batch(path, out, model=model).made == 1, "what is gone is made again"


def test_a_folder_that_was_deleted_in_the_store_is_made_anew(store: str, manifest: Manifest) -> None:
    """Whatever this machine still knows of it, also of a run that ended before the first copy."""
    rows, out = read_manifest(manifest(row("a", portrait="none.png"))), f"{store}/out"
    with RemoteFolder(out, rows, "m", retry_failed=False, parquet=False) as folder:
        folder.journal.died(next(iter(folder.rows)), 1)
    with RemoteFolder(out, rows, "m", retry_failed=False, parquet=False) as folder:
        assert [folder.journal.row(key).deaths for key in folder.rows] == [1]
    fsspec.filesystem("memory").rm(out, recursive=True)
    with RemoteFolder(out, rows, "m", retry_failed=False, parquet=False) as folder:
        assert [folder.journal.row(key).deaths for key in folder.rows] == [0]


def test_a_store_that_fails_for_a_moment_keeps_its_journal(
    store: str, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A journal that cannot be looked at is not one that is absent."""
    rows = read_manifest(manifest(row("a", portrait="none.png")))
    with RemoteFolder(f"{store}/out", rows, "m", retry_failed=False, parquet=False) as folder:
        folder.journal.died(next(iter(folder.rows)), 1)
        folder.finish()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    files = fsspec.filesystem("memory")
    looked = files.isfile

    def broken(path: str, *more: Any) -> bool:
        if path.endswith(JOURNAL):
            raise OSError("connection reset")
        return bool(looked(path, *more))

    monkeypatch.setattr(files, "isfile", broken)
    with RemoteFolder(f"{store}/out", rows, "m", retry_failed=False, parquet=False) as folder:
        assert [folder.journal.row(key).deaths for key in folder.rows] == [1]


def test_what_a_store_says(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are ours; those of a network may pass."""
    with pytest.raises(InputError, match="nowhere://x cannot be opened"):
        Remote("nowhere://x")
    with pytest.raises(InputError, match="cannot be read") as missing, fetched(urls(f"{store}/none"), ("voice",)):
        pass
    assert not is_transient(missing.value)
    remote = Remote(f"{store}/a.png")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("connection reset")

    monkeypatch.setattr(remote._files, "get_file", broken)
    monkeypatch.setattr(remote._files, "put_file", broken)
    with pytest.raises(InputError, match="RuntimeError: connection reset") as failed:
        remote.fetch(tmp_path / "a.png")
    assert is_transient(failed.value)
    with pytest.raises(OutputError, match="cannot be written") as unwritten:
        remote.put(tmp_path / "a.png")
    assert is_transient(unwritten.value)


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependencyError, match=r"emo_rt\[remote\]"):
        Remote("memory://x")
