"""The engine that sends items to a gateway over HTTP, at background priority: other requests are served first."""

from __future__ import annotations

import base64
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import httpx
import numpy as np
import pyarrow as pa
from conch_client import InvalidInputError, Ranked, Ranking, SparseVector
from conch_contract import ModelInfo, Task

from conch_batch.engines.engine import Answers, Item, Question, no_answers, probe
from conch_batch.errors import EngineError
from conch_batch.job import Job, Reranking
from conch_batch.model import Model
from conch_batch.outputs import columns

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence


_TEXTS = 64
"""Most texts of a request."""
_PRIORITY = {"x-conch-priority": "background"}
_TIMEOUT_S = 600.0
_FIRST_PATIENCE_S, _PATIENCE_S = 30.0, 600.0
"""Longest times for which a request is repeated while the gateway is busy or cannot be reached: of a run that begins,
whose address may be wrong, and of one that computes."""
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_LATER = {408, 429, 500, 502, 503, 504}
"""Statuses after which a request is repeated. 409, another vector space, is permanent."""
_STATED = (
    *("task", "precision", "dimension", "max_length", "pooling", "normalized", "source", "revision"),
    *("weights_sha256", "tokenizer_sha256", "prompts", "default_prompt_name"),
)
_KINDS = {Task.EMBEDDING: "dense", Task.MULTI_VECTOR: "late", Task.SPARSE: "sparse"}


class _Answer(NamedTuple):
    body: dict[str, Any]
    space_id: str | None


def describe(job: Job) -> Model:
    """The model as the gateway describes it, and the vector space in which it answers.

    Raises:
        EngineError: the gateway does not answer, has no such model, or refuses the options.
    """
    with closing(_Gateway(job, patience_s=_FIRST_PATIENCE_S)) as gateway:
        stated = gateway.get(f"/v1/models/{job.model}")
        facts = {key: stated[key] for key in _STATED if stated.get(key) is not None}
        try:
            info = _info(job.model, stated)
        except (KeyError, ValueError) as error:
            msg = f"{job.server} does not describe {job.model} as a gateway of conch does ({error}): name one's address"
            raise EngineError(msg) from error
        try:
            answer = gateway.post(*_request(job, info, [probe(job.task)]))
        except InvalidInputError as error:
            raise EngineError(str(error)) from error
    identity = {key: str(value) for key, value in facts.items()} | {"space_id": answer.space_id or ""}
    schema = columns.added(job.task, info, answer.space_id)
    return Model(info, answer.space_id, schema, {"name": job.model, "computed_by": "a deployment", **identity})


class Deployment:
    """Answers items by requests; see `Engine`.

    Args:
        job: names the gateway, the model and the task.
        model: as returned by `describe`; answers of another vector space are errors.
    """

    def __init__(self, job: Job, model: Model) -> None:
        self._job, self._model, self.schema = job, model, model.schema
        self._gateway = _Gateway(job, model.space_id)

    def compute(self, items: Sequence[Item]) -> Answers:
        """See `Engine`."""
        size = 1 if isinstance(self._job.task, Reranking) else _TEXTS
        order = sorted(range(len(items)), key=lambda place: -_length(items[place]))
        answers: dict[int, Any] = {}
        refused: dict[Item, str] = {}
        tokens = 0
        for start in range(0, len(items), size):
            for places, body in self._bodies(items, order[start : start + size]):
                if isinstance(body, str):
                    refused |= {items[place]: body for place in places}
                    continue
                tokens += body["usage"]["total_tokens"]
                answers |= zip(places, self._answers(body), strict=True)
        if not answers:
            return no_answers(self.schema, refused)
        in_order = [answers[place] for place in sorted(answers)]
        arrays = columns.arrays_of(self._job.task, self._model.info, in_order)
        return Answers(pa.RecordBatch.from_arrays(arrays, schema=self.schema), tokens, refused)

    def close(self) -> None:
        """See `Engine`."""
        self._gateway.close()

    def _bodies(
        self, items: Sequence[Item], places: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], dict[str, Any] | str]]:
        """Yield answers with the places of their items; for an item that is refused, the reason.

        A request that is refused is divided: it may be too large, or only one of its items be refused.
        """
        try:
            yield places, self._ask([items[place] for place in places])
        except InvalidInputError as error:
            if len(places) == 1:
                yield places, str(error)
                return
            half = len(places) // 2
            yield from self._bodies(items, places[:half])
            yield from self._bodies(items, places[half:])

    def _ask(self, items: Sequence[Item]) -> dict[str, Any]:
        return self._gateway.post(*_request(self._job, self._model.info, items)).body

    def _answers(self, body: Mapping[str, Any]) -> list[Any]:
        if isinstance(self._job.task, Reranking):
            ranked = [Ranked(each["index"], each["relevance_score"]) for each in body["results"]]
            return [Ranking(ranked, body["usage"]["total_tokens"])]
        return [_vector(each) for each in body["data"]]


class _Gateway:
    """Sends requests to a gateway, and repeats them while it is busy or cannot be reached."""

    def __init__(self, job: Job, space_id: str | None = None, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        address = _address(job.server or "")
        headers = dict(_PRIORITY)
        key = (job.api_key or "").strip()  # files of secrets often end in a line end
        if not (key.isascii() and key.isprintable()):
            raise EngineError("CONCH_API_KEY has a character that no key has: set it to the key alone")
        if key:
            headers["authorization"] = f"Bearer {key}"
        if space_id:
            headers["x-conch-expect-space"] = space_id
        self._client = httpx.Client(
            base_url=address,
            headers=headers,
            timeout=_TIMEOUT_S,
            trust_env=False,  # without proxies, and without SSL_CERT_FILE if it were not for the next line
            verify=_authorities(),
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """The body of an answer; raises EngineError."""
        try:
            return self._send(self._client.build_request("GET", path)).body
        except InvalidInputError as error:
            raise EngineError(str(error)) from error

    def post(self, path: str, body: Mapping[str, Any]) -> _Answer:
        """An answer.

        Raises:
            InvalidInputError: the request is refused.
            EngineError: the gateway does not answer, or its model now has another vector space.
        """
        return self._send(self._client.build_request("POST", path, json=body))

    def _send(self, request: httpx.Request) -> _Answer:
        end, pause_s = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            try:
                response = self._client.send(request)
                problem = None if response.is_success else f"answers {response.status_code} {_message(response)}"
                retry = response.status_code in _LATER
            except httpx.TransportError as error:
                problem, retry = f"does not answer: {type(error).__name__}: {error}", True
            if problem is None:
                return _Answer(_json(response), response.headers.get("x-conch-space-id"))
            if not retry and response.status_code in {400, 413, 422}:
                raise InvalidInputError(_message(response))
            if not retry or time.monotonic() + pause_s > end:
                raise EngineError(f"{request.url} {problem}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _authorities() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        msg = f"the authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({error}); correct or unset it"
        raise EngineError(msg) from error


def _address(server: str) -> httpx.URL:
    try:
        address = httpx.URL(server)
    except httpx.InvalidURL as error:
        raise EngineError(f"{server!r} is no address of a gateway: {error}; write http://HOST:PORT") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise EngineError(f"{server!r} is no address of a gateway: write http://HOST:PORT")
    return address


def _request(job: Job, info: ModelInfo, items: Sequence[Item]) -> tuple[str, dict[str, Any]]:
    """Path and body of a request."""
    task = job.task
    if isinstance(task, Reranking):
        question = cast("Question", items[0])
        ranked: dict[str, Any] = {"query": question.query, "documents": list(question.documents)}
        chosen = {"top_n": task.top_n, "instruction": task.instruction, "raw_scores": task.raw_scores or None}
        return "/v1/rerank", {
            "model": job.model,
            **ranked,
            "return_documents": False,
            "truncate": task.truncate,
            **_given(chosen),
        }
    if task.prompt is not None:
        raise EngineError("a gateway takes no text of a prompt: leave out --prompt, or name one with --prompt-name")
    body: dict[str, Any] = {"model": job.model, "input": list(items), "encoding_format": "base64"}
    body["truncate"] = task.truncate
    body["vector_type"] = _KINDS.get(info.task, "dense")
    chosen = {"prompt_name": task.prompt_name, "dimensions": task.dimensions}
    return "/v1/embeddings", {**body, **_given(chosen), **({} if task.normalize else {"normalize": False})}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _vector(item: Mapping[str, Any]) -> Any:
    """float32 [dimension], float32 [tokens, dimension] or a sparse vector."""
    embedding = item["embedding"]
    if isinstance(embedding, dict):
        return SparseVector(np.array(embedding["indices"], np.int64), np.array(embedding["values"], np.float32))
    numbers = np.frombuffer(base64.b64decode(embedding), "<f4")
    return numbers.reshape(item["shape"]) if item.get("shape") else numbers


def _length(item: Item) -> int:
    return len(item) if isinstance(item, str) else 0


def _message(response: httpx.Response) -> str:
    try:
        body = response.json()
        return str(body.get("error", body).get("message", body))
    except (ValueError, AttributeError):
        return response.text[:200]


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise EngineError(f"{response.url} does not answer as a gateway of conch does: {response.text[:200]!r}")
    return body


def _info(name: str, stated: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        name=name,
        task=Task(stated["task"]),
        precision=stated.get("precision", ""),
        max_length=stated["max_length"],
        max_rows=1,
        inputs=(),
        output="",
        tokenizer="",
        tokenizer_sha256="",
        tokenizer_bytes=0,
        source=stated.get("source", ""),
        revision=stated.get("revision", ""),
        weights_sha256=stated.get("weights_sha256", ""),
        dimension=stated.get("dimension"),
        normalized=stated.get("normalized", False),
    )
