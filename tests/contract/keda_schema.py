"""JSON schema of KEDA's ScaledObject, from the classes that cloudcoil generates from KEDA's resource definitions.

Those classes ignore fields that they do not know; a cluster would drop them with a warning, or refuse them. Their
schema, closed, notices them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema


def validate(resource: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError if KEDA has no such resource, or a field is unknown or of another type."""
    _validator().validate(resource)


@cache
def _validator() -> jsonschema.Draft202012Validator:
    from cloudcoil.models.keda.v1alpha1 import (
        ScaledObject,
    )  # takes 1.6 s, which every worker would spend to collect tests

    schema = ScaledObject.model_json_schema(by_alias=True)
    for each in (schema, *schema["$defs"].values()):
        if each.get("type") == "object":
            each.setdefault("additionalProperties", False)
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return jsonschema.Draft202012Validator(schema)
