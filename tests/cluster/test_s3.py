"""A real store of the kind of S3, on loopback: inputs from there, videos to there, also by workers of a cluster."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.batch import Cluster, Model, Share, run_batch, run_batch_on_ray
from emo_rt.batch.remote import Remote
from tests.batch.conftest import events, results, row
from tests.batch.test_batch_remote import urls

BUCKET = "s3://films"


@pytest.fixture
def bucket(store: str | None, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The inputs and a list of six rows, of which one is bad, in a bucket."""
    if store is None:
        pytest.skip("needs moto[server] and s3fs: make ray")
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [row(f"r{n}", seed=n, **urls(BUCKET)) for n in range(5)] + [row("gone", **urls(f"{BUCKET}/none"))]
    (inputs / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = fsspec.filesystem("s3")
    files.mkdirs("films", exist_ok=True)
    files.put(f"{inputs}/", "films", recursive=True)
    return BUCKET


def copied(url: str, target: Path) -> Path:
    """Results and journal of a folder there."""
    target.mkdir()
    for name in ("results.jsonl", "journal.jsonl"):
        Remote(f"{url}/{name}").fetch(target / name)
    return target


def check(bundle: Bundle, bucket: str, out: str, tmp_path: Path, made: Any) -> None:
    assert (made.made, made.failed) == (5, 1)
    run_batch(f"{bucket}/rows.jsonl", tmp_path / "plain", model=model(bundle))
    here, there = results(tmp_path / "plain"), results(copied(out, tmp_path / "copy"))
    assert {name: line["sha256"] for name, line in there.items()} == {n: line["sha256"] for n, line in here.items()}
    assert Remote(f"{out}/videos").names() == {Path(line["output"]).name for line in there.values() if line["output"]}
    begun = Counter(event["key"] for event in events(tmp_path / "copy") if event["event"] == "attempt")
    assert set(begun.values()) == {1}


def model(bundle: Bundle) -> Model:
    return Model(str(bundle.path), device="cpu", threads=1)


def test_a_run_from_and_to_a_bucket(
    tiny_bundle: Bundle, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{bucket}/plain"
    check(tiny_bundle, bucket, out, tmp_path, run_batch(f"{bucket}/rows.jsonl", out, model=model(tiny_bundle)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    assert run_batch(f"{bucket}/rows.jsonl", out, model=model(tiny_bundle)).skipped == 6


def test_a_cluster_from_and_to_a_bucket(tiny_bundle: Bundle, bucket: str, cluster: Any, tmp_path: Path) -> None:
    out, on = f"{bucket}/cluster", Cluster(share=Share(gpus=1))
    done = run_batch_on_ray(f"{bucket}/rows.jsonl", out, cluster=on, model=model(tiny_bundle), workers=2)
    check(tiny_bundle, bucket, out, tmp_path, done)
