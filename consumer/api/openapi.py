"""
The document of the service for machines: OpenAPI 3.1, built from what it serves.

Bodies of events are the published JSON Schemas with what the settings change in them: patterns of
identifiers and further fields. Answers are the types they are encoded from.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import msgspec

import consumer
from consumer.api import problems
from consumer.api.access import Scope
from consumer.api.operations import Content, Description
from consumer.api.predictions import ProblemAnswer
from consumer.api.problems import Kind
from consumer.schema import published_schema
from consumer.settings import Events

_REF: Final = "#/components/schemas/{name}"
_TOKEN: Final = r"^pan:[A-Za-z0-9]{1,8}:[0-9a-f]{32}$"  # noqa: S105 - the form of a token
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
# What may happen to every request at all, and to every one that needs somebody known.
_OF_ALL: Final = (
    Kind.NOT_HTTP,
    Kind.SLOW_REQUEST,
    Kind.LARGE_HEAD,
    Kind.INVALID,
    Kind.UNAVAILABLE,
    Kind.FAILED,
)
_OF_KNOWN: Final = (Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.TOO_LARGE)
_OF_BODIES: Final = (
    Kind.NOT_JSON,
    Kind.TOO_LARGE,
    Kind.WRONG_MEDIA_TYPE,
)


def build_document(operations: Sequence[Description], events: Events) -> dict[str, Any]:
    """The document of *operations*, for events as *events* has them."""
    types = [*_types(operations), ProblemAnswer]
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    schemas: dict[str, Any] = {**event_schemas(events), **components}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fraudstream",
            "version": consumer.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def event_schemas(events: Events) -> dict[str, Any]:
    """
    The schemas of both events by name, with references within the document.

    As the settings have them: patterns of identifiers, tokens of card numbers, further fields.
    """
    found: dict[str, Any] = {}
    for event in ("transaction", "label"):
        schema: dict[str, Any] = json.loads(published_schema(event))
        found.update(schema.pop("$defs", {}))
        schema.pop("$schema")
        schema.pop("$id")
        found[f"{event.capitalize()}Event"] = schema
    patterns = events.id_patterns.model_dump()
    for schema in (found["TransactionEvent"], found["LabelEvent"], found["LabelKeys"]):
        for name, property_ in schema["properties"].items():
            if name in patterns:
                _set_pattern(property_, _pattern(name, patterns[name], events))
    for name in events.extra_fields:
        found["TransactionEvent"]["properties"][name] = dict(_SCALAR)
    return {name: _moved(part) for name, part in found.items()}


def _pattern(name: str, own: str | None, events: Events) -> str:
    pattern = own or events.id_pattern
    if events.pan == "hash" and name != "transaction_id":
        return f"({pattern})|({_TOKEN})"
    return pattern


def _set_pattern(schema: dict[str, Any], pattern: str) -> None:
    """Put *pattern* where a schema of text has one, also as one of several forms."""
    if "pattern" in schema:
        schema["pattern"] = pattern
    for form in schema.get("anyOf", ()):
        _set_pattern(form, pattern)


def _moved(part: Any) -> Any:
    """*part* with its references to ``$defs`` led to the components of the document."""
    if isinstance(part, Mapping):
        return {
            name: value.replace("#/$defs/", "#/components/schemas/")
            if name == "$ref" and isinstance(value, str)
            else _moved(value)
            for name, value in part.items()
        }
    if isinstance(part, list):
        return [_moved(each) for each in part]
    return part


def _types(operations: Iterable[Description]) -> list[type]:
    contents = [each for o in operations for each in (o.answer, o.request) if each is not None]
    return list(dict.fromkeys(each.schema for each in contents if isinstance(each.schema, type)))


def _operation(operation: Description) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_parameter(each) for each in operation.parameters],
        "responses": _responses(operation),
        "security": _security(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.request)}
    return described


def _parameter(parameter: Any) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": deepcopy(dict(parameter.schema)),
    }


def _responses(operation: Description) -> dict[str, Any]:
    answer = operation.answer
    good: dict[str, Any] = {"description": operation.summary}
    if answer is not None:
        good = {
            "description": answer.description or operation.summary,
            "content": _content(answer),
        }
    responses = {str(operation.status): good}
    for status, meaning in operation.statuses.items():
        responses[str(status)] = {**good, "description": meaning}
    kinds = [*operation.problems, *_OF_ALL]
    if operation.scope is not None:
        kinds += _OF_KNOWN
    if operation.request is not None:
        kinds += _OF_BODIES
    for status in sorted({kind.status for kind in kinds}):
        of_status = dict.fromkeys(kind for kind in kinds if kind.status == status)
        problem = _problem_response(list(of_status))
        responses[str(status.value)] = _joined(responses.get(str(status.value)), problem)
    return responses


def _joined(other: Mapping[str, Any] | None, problem: dict[str, Any]) -> dict[str, Any]:
    """*problem* beside an *other* answer of the same status, told apart by the media type."""
    if other is None:
        return problem
    description = f"{other['description']}. Or: {problem['description']}"
    content = {**other.get("content", {}), **problem["content"]}
    return {**problem, "description": description, "content": content}


def _problem_response(kinds: Sequence[Kind]) -> dict[str, Any]:
    names = "; ".join(f"{kind.title} (`{kind.type}`)" for kind in kinds)
    schema = {"$ref": _REF.format(name=ProblemAnswer.__name__)}
    response: dict[str, Any] = {
        "description": names,
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
    }
    if any(kind in (Kind.OVERLOADED, Kind.UNAVAILABLE) for kind in kinds):
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds after which it may be tried again",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return response


def _content(content: Content) -> dict[str, Any]:
    schema: Any = content.schema
    if isinstance(schema, type):
        schema = {"$ref": _REF.format(name=schema.__name__)}
    return {content.media_type: {"schema": schema}}


def _security(operation: Description) -> list[dict[str, list[str]]]:
    if operation.session:
        return [{"session": []}]
    if operation.scope is None:
        return []
    ways: list[dict[str, list[str]]] = [{"sigv4": []}]
    if operation.scope in (Scope.READ, Scope.LABEL):
        ways.append({"session": []})
    return ways


_DESCRIPTION: Final = """\
Decisions on card transactions, each made once: asking again with the same `transaction_id`
returns the first decision, whether it came by the stream or from here. Errors are problem
documents (RFC 9457)."""

_SECURITY_SCHEMES: Final = {
    "sigv4": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "description": "AWS Signature Version 4, as botocore and `curl --aws-sigv4` make it",
        "x-amazon-apigateway-authtype": "awsSigv4",
    },
    "session": {
        "type": "apiKey",
        "name": "fraudstream-session",
        "in": "cookie",
        "description": "The session of the live page",
    },
}
