"""JSON schemas of KServe's resources, from the classes that its SDK generates from their definitions.

The SDK's wheel is installed without what it needs to run, so its modules are read and not imported. What those
resources take over from Kubernetes (containers, volumes …) is described by the schemas of `kubernetes-validate`.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import referencing

_VERSION = "v1.37.0-local-strict"
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_META = {"ObjectMeta", "Time"}


def validate(resource: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError if KServe has no such resource, or a field is unknown or of another type."""
    version, kind = resource["apiVersion"].removeprefix("serving.kserve.io/"), resource["kind"]
    schema = {"$ref": f"#/$defs/{version.capitalize()}{kind}", "$defs": _classes()}
    registry = referencing.Registry().with_resource("kubernetes", referencing.Resource.from_contents(_kubernetes()))
    jsonschema.Draft202012Validator(schema, registry=registry).validate(resource)


@cache
def _kubernetes() -> dict[str, Any]:
    path = _package("kubernetes_validate") / "kubernetes-json-schema" / _VERSION / "_definitions.json"
    definitions: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return definitions


@cache
def _classes() -> dict[str, Any]:
    sources = [path.read_text(encoding="utf-8") for path in (_package("kserve") / "models").glob("*.py")]
    trees = [(source, ast.parse(source)) for source in sources]
    classes = [(source, node) for source, tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    known = {node.name for _, node in classes}
    return {node.name: _schema(source, node, known) for source, node in classes}


def _schema(source: str, node: ast.ClassDef, known: set[str]) -> dict[str, Any]:
    tables = {
        target.id: ast.literal_eval(statement.value)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    names, required = tables["attribute_map"], re.findall(r"Invalid value for `(\w+)`, must not be `None`", source)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {names[field]: _type(kind, known) for field, kind in tables["openapi_types"].items()},
        "required": [names[field] for field in required],
    }


def _type(kind: str, known: set[str]) -> dict[str, Any]:
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _type(found[1], known)}
    if found := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _type(found[1], known)}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind in known:
        return {"$ref": f"#/$defs/{kind}"}
    name = kind.removeprefix("V1")
    place = "apimachinery.pkg.apis.meta.v1" if name in _META else "api.core.v1"
    return {"$ref": f"kubernetes#/$defs/io.k8s.{place}.{name}"} if kind.startswith("V1") else {}


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None, "not installed: run make"
    return Path(spec.submodule_search_locations[0])
