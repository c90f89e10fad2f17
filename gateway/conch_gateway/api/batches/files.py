"""OpenAI's `/v1/files`: inputs and answers of batches."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import anyio
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from conch_gateway.api.batches.upload import Form, read_form
from conch_gateway.api.fields.query import Query, query_parameters, read_query
from conch_gateway.api.route import Router, path_parameter
from conch_gateway.api.services import Services
from conch_gateway.auth.keys import ANYBODY
from conch_gateway.batches.records import File, Purpose, Stored
from conch_gateway.errors import NotStoredError
from conch_gateway.telemetry.request import context_of

_FILE_ID = path_parameter("file_id", "Id of the file.", "file-0123456789abcdef01234567")
_LONGEST_NAME = 255
_HOUR_S, _MONTH_S = 3_600, 2_592_000
Expiry = Annotated[int, Field(ge=_HOUR_S, le=_MONTH_S, description="Seconds from the file's creation to its deletion.")]


class UploadRequest(Query):
    """The fields of the upload form other than the file."""

    purpose: Literal["batch"] = Field(description="What the file is for: the input of a batch.")
    anchor: Literal["created_at"] | None = Field(None, alias="expires_after[anchor]")
    seconds: Expiry | None = Field(None, alias="expires_after[seconds]")


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"]


class FileList(BaseModel):
    """Some of the files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that was deleted."""

    id: str
    object: Literal["file"]
    deleted: bool


class FileQuery(Query):
    """Which files are listed."""

    after: str | None = Field(None, description="Id of the file after which the list begins.")
    limit: int = Field(10_000, ge=1, le=10_000, description="Most files to return.")
    order: Literal["asc", "desc"] = Field("desc", description="Order by the time of creation.")
    purpose: Purpose | None = Field(None, description="List only files with this purpose.")


def stored(services: Services) -> Stored:
    """Return the stored files and batches; raises NotStoredError if these are turned off."""
    if services.batches is None:
        raise NotStoredError("files and batches are turned off; the operator turns them on with CONCH_BATCH_DATABASE")
    return services.batches


def owner_of(request: Request) -> str:
    """Return the owner of the files and batches of a request: the name of its key."""
    key = context_of(request).key
    return "" if key is ANYBODY else key.name


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes = Router(tag="batches")

    @routes.on("POST", "/v1/files", FileObject, "Upload a file", openapi_extra={"requestBody": _FORM})
    async def upload_file(request: Request) -> Any:
        upload = await stored(services).files.upload(owner_of(request))
        try:
            form = await read_form(request, upload.write)
            fields = read_query(form.fields, UploadRequest)
            return _entry(await upload.complete(_name(form), fields.seconds))
        except BaseException:
            with anyio.CancelScope(shield=True):  # also if the caller has disconnected
                await upload.abandon()
            raise

    @routes.on_get("/v1/files", FileList, "List files", openapi_extra={"parameters": query_parameters(FileQuery)})
    async def list_files(request: Request) -> Any:
        files, query = stored(services).files, read_query(request.query_params, FileQuery)
        page = await files.listed(
            owner_of(request),
            limit=query.limit,
            after=query.after,
            ascending=query.order == "asc",
            purpose=query.purpose,
        )
        return listed([_entry(file) for file in page.items], has_more=page.has_more)

    @routes.on_get("/v1/files/{file_id}", FileObject, "Describe a file", openapi_extra={"parameters": [_FILE_ID]})
    async def describe_file(request: Request) -> Any:
        return _entry(await stored(services).files.get(owner_of(request), request.path_params["file_id"]))

    @routes.on("DELETE", "/v1/files/{file_id}", FileDeleted, "Delete a file", openapi_extra={"parameters": [_FILE_ID]})
    async def delete_file(request: Request) -> Any:
        file_id = request.path_params["file_id"]
        await stored(services).files.delete(owner_of(request), file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @routes.on_get(
        "/v1/files/{file_id}/content",
        "application/octet-stream",
        "Download a file",
        openapi_extra={"parameters": [_FILE_ID]},
        response_class=StreamingResponse,
    )
    async def download_file(request: Request) -> Any:
        files = stored(services).files
        file = await files.get(owner_of(request), request.path_params["file_id"])
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        }
        if request.method == "HEAD":  # the content would be read for nobody
            return Response(media_type="application/octet-stream", headers=headers)
        return StreamingResponse(files.content(file), media_type="application/octet-stream", headers=headers)

    return routes


def listed(entries: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page of a list in OpenAI's format."""
    first, last = (entries[0]["id"], entries[-1]["id"]) if entries else (None, None)
    return {"object": "list", "data": entries, "first_id": first, "last_id": last, "has_more": has_more}


def _name(form: Form) -> str:
    printable = "".join(letter for letter in form.filename or "" if letter.isprintable())
    return printable[-_LONGEST_NAME:] or "file.jsonl"


def _entry(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "JSON Lines: one request of a batch each.",
                    },
                    **UploadRequest.model_json_schema()["properties"],
                },
            }
        }
    },
}
