"""The parameters in a request's address or form: a checked model of them, and their description."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from conch_gateway.api.fields.body import explained


class Query(BaseModel):
    """Base of the models of parameters; unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Parameters = TypeVar("Parameters", bound=Query)


def read_query(given: Mapping[str, str], model: type[Parameters]) -> Parameters:
    """Check the parameters; raises RequestError, of which WrongTypeError and InvalidValueError are."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise explained(error) from error


@cache
def query_parameters(model: type[Query]) -> list[dict[str, Any]]:
    """Describe the parameters."""
    found = model.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        for name, schema in found.items()
    ]
