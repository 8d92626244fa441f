"""``emo-rt batch --ray`` on a real cluster: the same as without it, and no row is lost or made twice by any fault.

Every fault comes while a row is in flight; :mod:`tests.batch.faults` says how that is known.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle, BundleError, OutputError
from emo_rt.batch import Cluster, Model, Progress, Share, run_batch, run_batch_on_ray
from emo_rt.batch.ray_runner import is_node_alive
from tests.batch.conftest import Manifest, events, results, row, write_voice
from tests.batch.faults import Killer, running, seize, started, state, until
from tests.batch.test_batch_faults import check_whole
from tests.cluster.conftest import NODE, NODES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
GPU = Cluster(share=Share(gpus=1))
"""A worker per node."""


def model(bundle: Bundle) -> Model:
    return Model(str(bundle.path), device="cpu", threads=1)


def videos(out: Path) -> dict[str, tuple[str, str]]:
    return {name: (line["status"], line["sha256"]) for name, line in results(out).items()}


def attempts(out: Path) -> dict[str, int]:
    return {name: line["attempts"] for name, line in results(out).items()}


def test_the_same_as_without_ray(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, tmp_path: Path) -> None:
    """Byte for byte, with a share that was measured; a second run skips what is done."""
    rows = [row(f"r{n}", portrait="ab"[n % 2] + ".png", seed=n) for n in range(20)]
    path = manifest(*rows, row("bad", steps=0), row("gone", portrait="none.png"))
    seen: list[Progress] = []
    done = run_batch_on_ray(path, tmp_path / "ray", model=model(tiny_bundle), workers=2, progress=seen.append)
    assert (done.made, done.failed, done.poisoned, done.skipped, done.left) == (20, 2, 0, 0, 0)
    assert seen[-1] == Progress(done=22, total=22, failed=2, running=0)
    run_batch(path, tmp_path / "plain", model=model(tiny_bundle))
    assert videos(tmp_path / "ray") == videos(tmp_path / "plain")
    begun = [event["key"] for event in events(tmp_path / "ray") if event["event"] == "attempt"]
    assert Counter(begun).most_common(1)[0][1] == 1, "each row was begun once"
    assert run_batch_on_ray(path, tmp_path / "ray", model=model(tiny_bundle)).skipped == 22
    assert run_batch(path, tmp_path / "ray", model=model(tiny_bundle)).skipped == 22, "either goes on from the other"


def test_a_worker_is_killed(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [row("a"), row("victim", voice="long.wav"), row("twin", voice="long.wav"), row("b")]
    with Killer(out, lambda key: key.startswith("victim"), times=1) as killer:
        run_batch_on_ray(manifest(*rows), out, model=model(tiny_bundle), workers=2, cluster=GPU)
    assert killer.killed == 1
    found = check_whole(out, dict.fromkeys(("a", "victim", "twin", "b"), "ok"))
    assert attempts(out) == {"a": 1, "victim": 2, "twin": 1, "b": 1}
    assert found["victim"]["sha256"] == found["twin"]["sha256"], "the second attempt gives the same video"
    assert [event["event"] for event in events(out)].count("died") == 1


def test_a_poison_pill(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_voice(inputs / "endless.wav", 300)
    path = manifest(row("pill", voice="endless.wav"), row("a"), row("b"))
    with Killer(out, lambda key: key.startswith("pill"), times=3) as killer:
        done = run_batch_on_ray(path, out, model=model(tiny_bundle), cluster=GPU)
    assert (killer.killed, done.made, done.poisoned) == (3, 2, 1)
    check_whole(out, {"pill": "poisoned", "a": "ok", "b": "ok"})
    assert attempts(out) == {"pill": 3, "a": 1, "b": 1}
    tries = [event for event in events(out) if event["event"] == "attempt" and event["key"].startswith("pill")]
    assert [attempt["alone"] for attempt in tries] == [False, False, True]


def test_a_node_is_removed(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    """Its row is begun again elsewhere, alone, and does not count as a death."""
    out, holders = tmp_path / "out", [held_gpu() for _ in range(NODES)]
    gone = cluster.add_node(**NODE)  # the only node with room, until it is gone
    until(lambda: is_node_alive(gone.node_id))
    names, struck = [f"r{n}" for n in range(12)], list[str]()
    write_voice(inputs / "longer.wav", 20)

    def on_it(key: str) -> bool:
        is_there = key in on_node(out, gone.node_id)
        struck[:] = [key] if is_there else []
        return is_there

    def strike() -> None:
        if seize(out, on_it, over.is_set) is not None:
            cluster.remove_node(gone)
        for holder in holders:
            kill(holder)

    over, thread = threading.Event(), threading.Thread(target=strike)
    thread.start()
    path = manifest(*(row(name, voice="longer.wav", portrait="ab"[n % 2] + ".png") for n, name in enumerate(names)))
    try:
        run_batch_on_ray(path, out, model=model(tiny_bundle), workers=4, cluster=GPU)
    finally:
        over.set()
        thread.join()
    assert len(struck) == 1, "a row was in flight on the node"
    check_whole(out, dict.fromkeys(names, "ok"))
    kinds = Counter(event["event"] for event in events(out))
    assert (kinds["lost"], kinds["died"]) == (1, 0)
    (again,) = [event for event in events(out) if event["event"] == "attempt" and event["alone"]]
    assert again["key"] == struck[0]


def held_gpu() -> Any:
    """An actor that holds a node's only GPU."""
    import ray

    class Holder:
        def is_there(self) -> bool:
            return True

    holder = ray.remote(num_cpus=0, num_gpus=1)(Holder).remote()
    assert ray.get(holder.is_there.remote())
    return holder


def kill(actor: Any) -> None:
    import ray

    ray.kill(actor)


def on_node(out: Path, node: str) -> list[str]:
    """Rows in flight there. The worker's process knows its node by the name of its log."""
    return [key for key, worker in running(out).items() if node_of(worker) == node]


def node_of(worker: int) -> str:
    """From the arguments of the raylet that started it."""
    try:
        parent = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
        words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
    except OSError:
        return ""
    return next((word.partition("=")[2] for word in words if word.startswith("--node_id=")), "")


def line(bundle: Bundle, cluster: Any, path: Path, out: Path) -> list[str]:
    told = ["--bundle", str(bundle.path), "--device", "cpu", "--threads", "1", "--ray", cluster.address]
    return [str(path), "-o", str(out), *told]


def test_the_driver_is_killed_and_started_again(
    tiny_bundle: Bundle, cluster: Any, manifest: Manifest, tmp_path: Path
) -> None:
    """Its workers and its ledger end with it; what was in flight runs alone, and is not suspected any more after."""
    out, path = tmp_path / "out", manifest(row("a"), row("victim", voice="long.wav"), row("b"))
    with started(line(tiny_bundle, cluster, path, out)) as driver:
        worker = seize(out, lambda key: key.startswith("victim"))
        assert worker is not None
        os.kill(worker, signal.SIGCONT)
        driver.kill()
        driver.wait()
    before = {name: found["sha256"] for name, found in results(out).items()}
    run_batch_on_ray(path, out, model=model(tiny_bundle), cluster=GPU)
    until(lambda: state(worker) in "ZX")
    found = check_whole(out, {"a": "ok", "victim": "ok", "b": "ok"})
    assert before.items() <= {name: line["sha256"] for name, line in found.items()}.items()
    assert (found["a"]["attempts"], found["victim"]["attempts"]) == (1, 2)
    kinds = Counter(event["event"] for event in events(out))
    assert (kinds["lost"], kinds["died"]) == (1, 0)


def test_the_disk_is_full(
    tiny_bundle: Bundle, cluster: Any, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers may write 20 kB a file (RLIMIT_FSIZE): the run says so and stops. With room it goes on."""
    import resource

    out, path = tmp_path / "out", manifest(row("small"), row("large", voice="long.wav"))
    workers: list[int] = []

    def limit(_: Progress) -> None:
        for worker in set(running(out).values()) - set(workers):
            workers.append(worker)
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (20_000, 20_000))

    with pytest.raises(OutputError, match="make room and run the same command again"):
        run_batch_on_ray(path, out, model=model(tiny_bundle), cluster=GPU, progress=limit)
    assert workers
    assert [event["event"] for event in events(out)][-2:] == ["attempt", "stopped"], "it was in flight"
    assert results(out)["small"]["status"] == "ok"
    assert run_batch_on_ray(path, out, model=model(tiny_bundle), cluster=GPU).skipped == 1
    check_whole(out, {"small": "ok", "large": "ok"})
    assert attempts(out) == {"small": 1, "large": 2}


def test_a_model_that_is_another_one_there(
    tiny_bundle: Bundle, cluster: Any, manifest: Manifest, tmp_path: Path
) -> None:
    """One clear error, and no row suffers."""
    with pytest.raises(BundleError):
        run_batch_on_ray(manifest(row("a")), tmp_path / "out", model=Model(str(tmp_path / "none")))
    lost = Model(str(tiny_bundle.path), device="cpu", backend="nowhere")
    with pytest.raises(Exception, match="nowhere"):
        run_batch_on_ray(manifest(row("a")), tmp_path / "out", model=lost, cluster=GPU)
    assert not any(event["event"] == "attempt" for event in events(tmp_path / "out"))
