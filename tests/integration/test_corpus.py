"""`conch embed` here and on a real Ray cluster: what was killed is resumed, and the output is that of one run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from conch_batch import Done, Embedding, EngineError, InterruptedRun, Job, Workers, run
from conch_batch.processes import cluster, local, pool

from tests.dying import Dying
from tests.exports import export_once, options_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray.cluster_utils import Cluster

    from tests.checkpoints import Checkpoints

MODEL = "bert-fp32"
ROWS, SHARD_ROWS = 600, 10
HERE = "conch_batch.processes"  # in the command line of processes on this machine
CONCH = str(Path(sys.executable).parent / "conch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray warns of settings of its own
STARTS_S = 300  # processes take seconds to start, and many are started
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
# Without processes of Ray that nothing here uses: they take more time than the tests.
HEAD: dict[str, Any] = {**NODE, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module", autouse=True)
def _as_other_tests_run() -> Iterator[None]:
    """Ray runs its workers at niceness 15, by default: beside other tests they would come last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


class Nodes(NamedTuple):
    cluster: Cluster
    second: Any


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes, of which the second can be taken away."""
    started = start(attempts=3)
    yield started
    started.cluster.shutdown()  # type: ignore[no-untyped-call]


def start(attempts: int) -> Nodes:
    """Start the nodes; Ray gives one up after 30 s, which a busy machine may take."""
    from ray.cluster_utils import Cluster  # takes seconds, in every process that collects tests

    made = Cluster()
    try:
        made.add_node(**HEAD)
        return Nodes(made, made.add_node(**NODE))
    except Exception:
        made.shutdown()  # type: ignore[no-untyped-call]
        if attempts == 1:
            raise
    return start(attempts - 1)


@pytest.fixture(scope="module")
def repository(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    export_once(options_of(checkpoints, "bert", folder))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of many lengths, each fifth one the same, the last 200 those of before, and one that is missing."""
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    texts = ["again" if n % 5 == 0 else f"text {n % 400} " * (1 + n % 40) for n in range(ROWS)]
    lines = [json.dumps({"id": n, "text": None if n == 123 else text}) for n, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one run."""
    output = tmp_path_factory.mktemp("uninterrupted") / "vectors"
    done = subprocess.run(command(corpus, repository, output), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows, 0 of them are there already" in done.stderr
    assert "1, listed with their reasons" in done.stderr
    return output


def command(corpus: Path, repository: Path, output: Path, *more: str) -> list[str]:
    options = ["--model", MODEL, "--repository", str(repository), "--shard-rows", str(SHARD_ROWS)]
    return [CONCH, "embed", str(corpus), "--output", str(output), *options, *more]


def files_of(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def shards_of(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def test_each_row_is_there_once_with_its_vector_and_the_space_of_the_model(
    uninterrupted: Path, repository: Path
) -> None:
    table = ds.dataset(uninterrupted, format="parquet").to_table()
    assert table["id"].to_pylist() == [n for n in range(ROWS) if n != 123]
    vectors = table["vector"].to_pylist()
    texts = table["text"].to_pylist()
    of_text = dict(zip(texts, vectors, strict=True))
    assert len(of_text) == 321
    assert all(vector == of_text[text] for text, vector in zip(texts, vectors, strict=True))
    metadata = pq.read_schema(uninterrupted / "part-00000.parquet").metadata
    config = (repository / MODEL / "config.pbtxt").read_text("utf-8")
    assert metadata[b"conch.space_id"].decode() in config
    failed = (uninterrupted / "_failed" / "part-00012.jsonl").read_text("utf-8")
    assert json.loads(failed) == {"error": "text is null", "row": {"id": 123, "text": None}}


def test_what_keeps_a_process_from_computing_is_told_in_one_line(
    corpus: Path, repository: Path, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, output = tmp_path / "repository", tmp_path / "vectors"
    shutil.copytree(repository, broken)
    graph = broken / f"{MODEL}.encoder" / "1" / "model.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))  # a file of another size is noticed before any process begins
    done = subprocess.run(command(corpus, broken, output), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {MODEL} cannot be loaded on ")
    assert "Traceback" not in done.stderr
    assert shards_of(output) == 0

    monkeypatch.setattr(pool, "_DEATHS", 1)
    alone = local.started(Dying, (), cores=1, threads=1, on_gpu=False)
    together = cluster.connected(nodes.cluster.address, Dying, (), threads=1, on_gpu=False)
    for started in (alone, together):
        with (
            pytest.raises(EngineError, match=r"has ended \(.*\): each process needs memory") as raised,
            started as processes,
        ):
            list(pool.spread(processes, ["a shard"], size=1))
        assert "\n" not in str(raised.value)


class Killing:
    """A watcher that does something when so many shards are done."""

    def __init__(self, at: dict[int, Callable[[], None]]) -> None:
        self._at, self.shards = at, list[tuple[bool, int]]()

    def reading(self, files: int, of: int) -> None:  # noqa: ARG002
        raise AssertionError("what was planned is not planned again")

    def starting(self, rows: int, present: int) -> None:
        assert 0 < present < rows == ROWS

    def done(self, shard: Done) -> None:
        self.shards.append((shard.repeated, shard.shard))
        self._at.get(len(self.shards), lambda: None)()


def workers_of(process: psutil.Process, name: str) -> list[psutil.Process]:
    ours = process.children(recursive=True)  # other tests have workers too
    return [each for each in ours if name in " ".join(each.as_dict(["cmdline"])["cmdline"] or [])]


def kill_an_actor() -> None:
    workers_of(psutil.Process(), "ray::Worker")[0].kill()


def kill_a_process() -> None:
    workers_of(psutil.Process(), HERE)[0].kill()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_killed_again_and_again_and_resumed_the_output_is_that_of_one_run(
    corpus: Path, repository: Path, uninterrupted: Path, nodes: Nodes, tmp_path: Path
) -> None:
    output = tmp_path / "vectors"
    started = command(corpus, repository, output, "--actors", "2")

    # Only the command itself: the processes that it has started end too.
    answers = output / "_conch" / "unfinished" / "answers"  # to texts that several shards have
    process = subprocess.Popen(started, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    until(lambda: shards_of(answers) >= 2, STARTS_S)
    workers = workers_of(psutil.Process(process.pid), HERE)
    assert len(workers) == 2
    process.kill()
    process.wait()
    until(lambda: not any(each.is_running() for each in workers), STARTS_S)

    # Ctrl-C, which a terminal sends to all processes of a command; and again, from somebody in a hurry.
    process = subprocess.Popen(started, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: shards_of(output) >= 3, STARTS_S)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "To go on, run the same command again" in said

    before = shards_of(output)
    process = subprocess.Popen(started, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    until(lambda: shards_of(output) >= before + 3, STARTS_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert before < shards_of(output) < ROWS // SHARD_ROWS

    job = Job(
        inputs=(str(corpus),),
        output=str(output),
        task=Embedding(),
        model=MODEL,
        repository=repository,
        shard_rows=SHARD_ROWS,
    )
    with pytest.raises(InterruptedRun):
        run(job, Workers(cores=2), Killing({2: kill_a_process, 6: interrupt}))
    assert not workers_of(psutil.Process(), HERE)

    lose_a_node = partial(nodes.cluster.remove_node, nodes.second, allow_graceful=False)
    watcher = Killing({2: kill_an_actor, 4: lose_a_node})
    run(job, Workers(address=nodes.cluster.address), watcher)
    assert len(watcher.shards) == len(set(watcher.shards))
    assert files_of(output) == files_of(uninterrupted)


def test_a_finished_output_is_left_as_it_is_and_another_option_refused(
    corpus: Path, repository: Path, uninterrupted: Path
) -> None:
    before = files_of(uninterrupted)
    again = subprocess.run(command(corpus, repository, uninterrupted), capture_output=True, text=True, check=True)
    assert f"{ROWS} rows, {ROWS} of them are there already" in again.stderr
    other = [*command(corpus, repository, uninterrupted), "--numbers", "int8"]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "the option has changed: numbers was 'float32' and is 'int8'" in refused.stderr
    assert files_of(uninterrupted) == before
