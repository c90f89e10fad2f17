"""Models that come, go and are replaced while a real Triton and a real gateway serve."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import numpy as np
import pytest
from conch_client import AsyncClient
from conch_export import Options, Precision, export, plan

from tests.exports import export_once
from tests.serving import Serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints

KEYS = {"CONCH_TRITON_ADMIN_KEY": "key-of-triton-in-tests", "CONCH_ADMIN_KEY": "key-of-the-administrator"}
ADMIN = {"authorization": f"Bearer {KEYS['CONCH_ADMIN_KEY']}"}
TEXT = "a cat sat on the mat"
CLIENTS = 32


def of(name: str, checkpoint: Path, repository: Path) -> Options:
    return Options(str(checkpoint), repository, name=name, precision=Precision.FP32, plan=plan(cores=1))


@pytest.fixture(scope="module")
def exported(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`old` and `new`: small models with different weights and different tokenizers."""
    folder = tmp_path_factory.mktemp("live")
    export_once(of("old", checkpoints.bert(), folder))
    export_once(of("new", checkpoints.xlm_roberta(), folder))
    return folder


class Deployment:
    """`conch serve` whose Triton loads nothing by itself and whose gateway has it load, and a client of that."""

    def __init__(self, serving: Serving, http: httpx.AsyncClient, repository: Path, models_file: Path) -> None:
        self.serving = serving
        self.http = http
        self.repository = repository
        self.models_file = models_file

    async def embed(self, model: str) -> NDArray[np.float32]:
        answer = await self.http.post("/v1/embeddings", json={"model": model, "input": TEXT})
        assert answer.status_code == 200, answer.text
        return np.array(answer.json()["data"][0]["embedding"], np.float32)

    async def administer(self, path: str) -> Any:
        answer = await self.http.post(f"/admin/{path}", headers=ADMIN)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def models(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.http.get("/admin/models", headers=ADMIN)).json()["models"]
        return listed

    async def states(self) -> dict[str, str]:
        return {model["id"]: model["state"] for model in await self.models()}

    async def until_ready(self) -> None:
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.http.get("/health/ready")).status_code == 200

    def memory(self) -> tuple[int, int]:
        """Processes of model instances, and the memory that they do not share, in bytes."""
        stubs = self.serving.stubs
        return len(stubs), sum(stub.memory_full_info().uss for stub in stubs)

    def loads_of(self, model: str) -> int:
        """How often Triton has begun to load it."""
        return self.serving.triton_log.read_text().count(f"loading: {model}:1")


def break_graph(model: Path) -> None:
    (model / "1" / "model.onnx").write_bytes(b"no graph")


class Deploy(Protocol):
    """Serves the models as tables of the models file say, from a repository that the tests may change."""

    def __call__(self, tables: str) -> contextlib.AbstractAsyncContextManager[Deployment]: ...


@pytest.fixture(scope="module")
def deploy(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    @contextlib.asynccontextmanager
    async def deployed(tables: str) -> AsyncIterator[Deployment]:
        folder = tmp_path_factory.mktemp("deployment")
        repository, models_file = folder / "models", folder / "models.toml"
        shutil.copytree(exported, repository)
        models_file.write_text(tables)
        serving = Serving(repository, folder, CONCH_MODELS_FILE=str(models_file), **KEYS)
        await asyncio.to_thread(serving.start)
        async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
            deployment = Deployment(serving, http, repository, models_file)
            await deployment.until_ready()
            yield deployment
        assert await asyncio.to_thread(serving.stop) == 0

    return deployed


@pytest.fixture(scope="module")
async def lazy(deploy: Deploy) -> AsyncIterator[Deployment]:
    """`old` is loaded at the start, and `new` by its first request; each test begins with `new` unloaded."""
    async with deploy('old = {load = "start"}\nnew = {load = "lazy"}') as deployment:
        yield deployment


@pytest.fixture(scope="module")
async def aliases(deploy: Deploy) -> AsyncIterator[Deployment]:
    """Two more names for `old`; `new` is loaded on demand."""
    async with deploy('tools = {model = "old"}\ncode = {model = "old"}\nnew = {load = "demand"}') as deployment:
        yield deployment


@pytest.fixture(scope="module")
async def plain(deploy: Deploy) -> AsyncIterator[Deployment]:
    """Both are loaded at the start."""
    async with deploy("") as deployment:
        yield deployment


@pytest.fixture
async def unloaded(lazy: Deployment) -> Deployment:
    """`lazy` before anybody has asked `new`."""
    await lazy.administer("models/new/unload")
    return lazy


async def test_what_is_loaded_at_the_start_is_what_the_models_file_says(
    lazy: Deployment, aliases: Deployment, plain: Deployment
) -> None:
    assert await lazy.states() == {"old": "loaded", "new": "unloaded"}
    assert await aliases.states() == {"old": "loaded", "new": "unloaded"}
    assert await plain.states() == {"old": "loaded", "new": "loaded"}


async def test_a_lazy_model_is_loaded_once_by_its_first_requests(unloaded: Deployment) -> None:
    before = unloaded.loads_of("new.encoder")
    vectors = await asyncio.gather(*(unloaded.embed("new") for _ in range(CLIENTS)))
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)
    assert unloaded.loads_of("new.encoder") == before + 1
    assert await unloaded.states() == {"old": "loaded", "new": "loaded"}


async def test_unloading_frees_the_memory_and_the_next_request_of_a_lazy_model_loads_it_again(
    unloaded: Deployment,
) -> None:
    await unloaded.administer("models/old/unload")
    expected = await unloaded.embed("new")
    assert unloaded.memory()[1] > 10 * 2**20
    await unloaded.administer("models/new/unload")
    assert unloaded.memory() == (0, 0)
    np.testing.assert_allclose(await unloaded.embed("new"), expected, atol=1e-6)
    assert "again" not in unloaded.serving.said  # processes that end in order are not taken for dead
    await unloaded.administer("models/old/load")


async def test_an_unknown_model_is_not_waited_for(lazy: Deployment) -> None:
    refused = await lazy.http.post("/v1/embeddings", json={"model": "nobody", "input": TEXT}, timeout=10)
    assert refused.status_code == 404


async def test_clients_without_a_key_see_what_is_loaded_and_cannot_change_it(unloaded: Deployment) -> None:
    async with AsyncClient(unloaded.serving.grpc_url) as client:
        assert [info.name for info in await client.models() if info.base is None] == ["old"]
        assert (await client.embed([TEXT])).shape == (1, 48)
    for headers, status in (({}, 401), ({"authorization": "Bearer wrong"}, 401), (ADMIN, 200)):
        assert (await unloaded.http.post("/admin/models/old/load", headers=headers)).status_code == status


async def test_two_names_cost_one_copy(aliases: Deployment) -> None:
    np.testing.assert_array_equal(await aliases.embed("tools"), await aliases.embed("code"))
    assert aliases.loads_of("old.encoder") == 1
    listed = (await aliases.http.get("/v1/models")).json()["data"]
    assert {"tools", "code", "old"} <= {model["id"] for model in listed}


async def test_a_model_on_demand_is_not_found_until_an_administrator_loads_it(aliases: Deployment) -> None:
    refused = await aliases.http.post("/v1/embeddings", json={"model": "new", "input": TEXT})
    assert refused.status_code == 404
    assert "POST /admin/models/new/load" in refused.json()["error"]["message"]
    await aliases.administer("models/new/load")
    assert (await aliases.embed("new")).shape == (48,)
    await aliases.administer("models/new/unload")


async def test_a_wrong_models_file_changes_nothing(aliases: Deployment) -> None:
    expected, right = await aliases.embed("code"), aliases.models_file.read_text()
    for wrong in ("code = {model = 3}", "code = {model =", 'code = {model = "nobody"}'):
        aliases.models_file.write_text(wrong)
        refused = await aliases.http.post("/admin/reload", headers=ADMIN)
        assert refused.status_code in {400, 404}
    np.testing.assert_array_equal(await aliases.embed("code"), expected)
    aliases.models_file.write_text(right)


async def under_load(deployment: Deployment, model: str, change: Callable[[], Any]) -> list[NDArray[np.float32]]:
    """What 32 clients were answered from before a change until after it; none may be refused."""
    answers: list[NDArray[np.float32]] = []
    changed = asyncio.Event()

    async def ask() -> None:
        while not changed.is_set():
            answers.append(await deployment.embed(model))
        answers.append(await deployment.embed(model))

    async def make_the_change() -> None:
        await eventually(lambda: len(answers) >= 2 * CLIENTS)
        await change()
        changed.set()

    await asyncio.gather(make_the_change(), *(ask() for _ in range(CLIENTS)))
    return answers


def assert_all_are_one_of(answers: list[NDArray[np.float32]], old: NDArray[Any], new: NDArray[Any]) -> None:
    """And the last ones, one of each client, are the new one."""
    from_old = [bool(np.allclose(answer, old, atol=1e-5)) for answer in answers]
    from_new = [bool(np.allclose(answer, new, atol=1e-5)) for answer in answers]
    assert all(one != other for one, other in zip(from_old, from_new, strict=True))
    assert all(from_new[-CLIENTS:])
    assert any(from_old)


async def test_an_alias_moves_to_another_model_under_load_without_a_failed_request(unloaded: Deployment) -> None:
    unloaded.models_file.write_text('live = {model = "old"}\nnew = {load = "lazy"}')
    await unloaded.administer("reload")
    old = await unloaded.embed("old")
    np.testing.assert_array_equal(await unloaded.embed("live"), old)

    async def move() -> None:
        unloaded.models_file.write_text('live = {model = "new"}\nold = {load = "demand"}')
        await unloaded.administer("reload")
        await unloaded.administer("models/old/unload")

    answers = await under_load(unloaded, "live", move)
    assert_all_are_one_of(answers, old, await unloaded.embed("new"))
    assert await unloaded.states() == {"old": "unloaded", "new": "loaded"}


async def test_models_are_loaded_again_when_triton_was_started_again(plain: Deployment) -> None:
    expected, before = await plain.embed("old"), plain.loads_of("old.encoder")
    plain.serving.triton.kill()

    async def restarted() -> bool:
        return "Triton serves again" in plain.serving.said

    async def loaded_again() -> bool:
        return plain.loads_of("old.encoder") > before and set((await plain.states()).values()) == {"loaded"}

    await eventually(restarted)
    await eventually(loaded_again)
    np.testing.assert_allclose(await plain.embed("old"), expected, atol=1e-6)


async def test_a_new_export_that_cannot_be_loaded_leaves_the_old_one_serving(plain: Deployment, exported: Path) -> None:
    expected = await plain.embed("old")
    break_graph(plain.repository / "old.encoder")
    assert (await plain.http.post("/admin/models/old/load", headers=ADMIN)).status_code == 500
    np.testing.assert_array_equal(await plain.embed("old"), expected)
    reasons = {model["id"]: model["reason"] for model in await plain.models()}
    assert "old.encoder" in reasons["old"]
    assert reasons["new"] is None
    shutil.copytree(exported / "old.encoder", plain.repository / "old.encoder", dirs_exist_ok=True)
    await plain.administer("models/old/load")


async def test_a_new_export_under_the_same_name_replaces_the_old_under_load_without_a_failed_request(
    plain: Deployment, checkpoints: Checkpoints
) -> None:
    old, new = await plain.embed("old"), await plain.embed("new")
    await asyncio.to_thread(export, of("old", checkpoints.xlm_roberta(), plain.repository))
    answers = await under_load(plain, "old", lambda: plain.administer("models/old/load"))
    assert_all_are_one_of(answers, old, new)
