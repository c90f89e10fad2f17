"""OpenAI's `/v1/batches`: each line of a file is a request, which is computed in the background."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints
from starlette.requests import Request

from conch_gateway.api.batches.files import Expiry, listed, owner_of, stored
from conch_gateway.api.fields.body import Example, RequestBody, invalid, optional
from conch_gateway.api.fields.query import Query, query_parameters, read_query
from conch_gateway.api.route import Router, path_parameter
from conch_gateway.api.services import Services
from conch_gateway.batches.records import Batch, BatchOrder, LinePath, Status

_BATCH_ID = path_parameter("batch_id", "Id of the batch.", "batch_0123456789abcdef01234567")
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile("[1-9][0-9]{0,2}[mh]|[1-7]d")
_MOST_METADATA = 16
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def _window(window: str) -> str:
    if not _WINDOW.fullmatch(window):
        raise ValueError("must be 24h, or another number of minutes (30m), hours (6h) or up to seven days (7d)")
    return window


def _few(metadata: object) -> object:
    # Here, as pydantic counts them once it has collected what is wrong with each of a million.
    if isinstance(metadata, dict) and len(metadata) > _MOST_METADATA:
        raise invalid(f"must have at most {_MOST_METADATA} entries")
    return metadata


class OutputExpiry(RequestBody):
    """When the files with the answers are deleted."""

    anchor: Literal["created_at"]
    seconds: Expiry


class BatchRequest(RequestBody):
    """A batch to create."""

    example: ClassVar[Example] = {
        "input_file_id": "file-0123456789abcdef01234567",
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    }

    input_file_id: str = Field(description="Id of a file that was uploaded with the purpose batch.")
    endpoint: LinePath = Field(description="The path that every line of the file names.")
    completion_window: Annotated[str, AfterValidator(_window)] = Field(
        description="The time after which lines that are not computed expire: 24h, or another number of minutes (m), "
        "hours (h) or up to 7 days (d).",
        json_schema_extra={"pattern": f"^({_WINDOW.pattern})$"},
    )
    metadata: Annotated[
        dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]]
        | None,
        Field(max_length=_MOST_METADATA),
        BeforeValidator(_few),
    ] = optional("Up to 16 strings by name, returned with the batch.")
    output_expires_after: OutputExpiry | None = optional("When the files with the answers are deleted.")

    def order(self) -> BatchOrder:
        """Return the order."""
        number, unit = int(self.completion_window[:-1]), self.completion_window[-1]
        expiry = self.output_expires_after
        return BatchOrder(
            endpoint=self.endpoint,
            input_file_id=self.input_file_id,
            completion_window=self.completion_window,
            window_s=number * _SECONDS[unit],
            metadata=self.metadata or {},
            output_expires_s=None if expiry is None else expiry.seconds,
        )


class BatchErrorEntry(BaseModel):
    """An error in a line of the input, or in the whole input."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(BaseModel):
    """Why the input was refused."""

    object: Literal["list"]
    data: list[BatchErrorEntry]


class RequestCounts(BaseModel):
    """Numbers of lines."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    errors: BatchErrors | None
    request_counts: RequestCounts
    usage: dict[str, Any]
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """Some of the batches, the newest first."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchQuery(Query):
    """Which batches are listed."""

    after: str | None = Field(None, description="Id of the batch after which the list begins.")
    limit: int = Field(20, ge=1, le=100, description="Most batches to return.")


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes = Router(tag="batches")
    of_one = {"parameters": [_BATCH_ID]}

    @routes.on_post("/v1/batches", BatchRequest, BatchObject, "Create a batch")
    async def create_batch(body: BatchRequest, request: Request) -> Any:
        return _entry(await stored(services).ledger.create(owner_of(request), body.order()))

    @routes.on_get("/v1/batches", BatchList, "List batches", openapi_extra={"parameters": query_parameters(BatchQuery)})
    async def list_batches(request: Request) -> Any:
        ledger, query = stored(services).ledger, read_query(request.query_params, BatchQuery)
        page = await ledger.listed(owner_of(request), limit=query.limit, after=query.after)
        return listed([_entry(batch) for batch in page.items], has_more=page.has_more)

    @routes.on_get("/v1/batches/{batch_id}", BatchObject, "Describe a batch", openapi_extra=of_one)
    async def describe_batch(request: Request) -> Any:
        return _entry(await stored(services).ledger.get(owner_of(request), request.path_params["batch_id"]))

    @routes.on("POST", "/v1/batches/{batch_id}/cancel", BatchObject, "Cancel a batch", openapi_extra=of_one)
    async def cancel_batch(request: Request) -> Any:
        return _entry(await stored(services).ledger.cancel(owner_of(request), request.path_params["batch_id"]))

    return routes


def _entry(batch: Batch) -> dict[str, Any]:
    errors = [{"code": one.code, "message": one.message, "line": one.line, "param": one.param} for one in batch.errors]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{f"{name}_at": getattr(batch, f"{name}_at") for name in _TIMES},
        "errors": {"object": "list", "data": errors} if errors else None,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.tokens,
        },
        "metadata": dict(batch.metadata) or None,
    }
