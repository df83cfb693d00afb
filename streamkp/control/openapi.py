"""The OpenAPI document of the control API, made from its operations and models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from streamkp.control import models
from streamkp.control.api import PREFIX, Operation
from streamkp.graph.spec import NAME
from streamkp.version import __version__

_JSON = "application/json"
_COMMON = {
    400: "A header or the body is malformed.",
    403: "Not from there: another site, another host name, or a change from another machine without a token.",
}


def document(operations: Iterable[Operation], *, token: bool) -> dict[str, Any]:
    """OpenAPI 3.1; `token`: whether a bearer token is needed."""
    operations = list(operations)
    answers = {model for each in operations for _, model in each.answers.values() if model is not None}
    bodies = {each.body for each in operations if each.body is not None}
    answers.add(models.Refusal)
    pairs: list[tuple[type[BaseModel], Any]] = [(model, "serialization") for model in answers]
    pairs += [(model, "validation") for model in bodies]
    pairs.sort(key=lambda pair: pair[0].__name__)
    references, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    for each in operations:
        paths.setdefault(f"{PREFIX}{each.path}", {})[each.method] = _operation(each, references, token)
    paths[f"{PREFIX}/openapi.json"] = {
        "get": {
            "summary": "This document",
            "operationId": "openapi",
            "responses": {"200": _response("The document.", {"type": "object"})} | _refusals(references, token),
        }
    }
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "streamkp control",
            "version": __version__,
            "description": "Streams, stages and options of a running graph.",
        },
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {})},
    }
    if token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described


def _operation(each: Operation, references: Any, token: bool) -> dict[str, Any]:
    words = re.findall(r"[A-Za-z0-9]+", each.path)
    out: dict[str, Any] = {
        "summary": each.summary,
        "operationId": "-".join([each.method, *words]),
        "responses": {
            str(code): _response(text, references[model, "serialization"] if model is not None else None)
            for code, (text, model) in sorted(each.answers.items())
        }
        | _refusals(references, token),
    }
    if "{name}" in each.path:
        out["parameters"] = [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME}}
        ]
    if each.body is not None:
        schema = references[each.body, "validation"]
        out["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    elif each.any_body:
        out["requestBody"] = {"required": True, "content": {_JSON: {"schema": {"type": "object"}}}}
    return out


def _refusals(references: Any, token: bool) -> dict[str, Any]:
    refusal = references[models.Refusal, "serialization"]
    found = {str(code): _response(text, refusal) for code, text in _COMMON.items()}
    if token:
        found["401"] = _response("A token is needed: Authorization: Bearer TOKEN.", refusal)
    return found


def _response(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text} | ({} if schema is None else {"content": {_JSON: {"schema": schema}}})
