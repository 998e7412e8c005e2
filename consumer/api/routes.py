"""Every operation of the service: path, scope, what it takes and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from consumer.api.access import Scope
from consumer.api.catalogue import Catalogue, ModelsAnswer, RulesAnswer
from consumer.api.entities import Entities
from consumer.api.labels import LabelAnswer, LabelDesk
from consumer.api.openapi import build_document
from consumer.api.operations import Asked, Content, Description, Operation, Parameter, Reply
from consumer.api.predictions import BatchAnswer, PredictionAnswer, Predictions
from consumer.api.probes import Probes
from consumer.api.problems import Kind
from consumer.api.searching import PARAMETERS
from consumer.api.transactions import LONGEST_ID, Transactions
from consumer.settings import Settings
from consumer.status_server import PROMETHEUS_TEXT

DOCUMENT_PATH: Final = "/openapi.json"
_ID: Final = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID}
_DRY_RUN: Final = Parameter(
    "dry_run",
    {"type": "boolean", "default": False},
    "Decide as if it came alone and now, and write nothing",
)
_EVENT: Final = {"$ref": "#/components/schemas/TransactionEvent"}
_LABEL: Final = {"$ref": "#/components/schemas/LabelEvent"}
_BUSY: Final = (Kind.OVERLOADED, Kind.UNAVAILABLE, Kind.TIMED_OUT)
_HEALTH: Final = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["ok", "problems"],
}
_PAGE: Final = {
    "type": "object",
    "properties": {
        "transactions": {"type": "array", "items": {"type": "object"}},
        "total": {"type": "integer", "description": "All that match, from the cursor on"},
        "partial": {"type": "boolean", "description": "Time ran out: there may be more"},
        "next": {"type": ["string", "null"], "description": "The cursor of the next page"},
    },
    "required": ["transactions", "total", "partial", "next"],
}
_EVIDENCE: Final = {
    "type": "object",
    "properties": {
        "transaction_id": {"type": "string"},
        "prediction_id": {"type": "string"},
        "transaction": {"type": "object"},
        "features": {"type": "object"},
        "scores": {"type": "object"},
        "decision": {"type": "object"},
        "label": {"type": "object"},
    },
    "required": ["transaction_id", "prediction_id", "transaction", "features", "decision"],
}
_ENTITY: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "id": {"type": "string"},
        "at_ms": {"type": "integer"},
        "features": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
    },
    "required": ["type", "id", "at_ms", "features"],
}


@dataclass(frozen=True, slots=True)
class Desks:
    """What answers the operations."""

    predictions: Predictions
    transactions: Transactions
    entities: Entities
    labels: LabelDesk
    catalogue: Catalogue
    probes: Probes


def build_operations(
    desks: Desks, settings: Settings, further: Sequence[Description] = ()
) -> list[Operation]:
    """Every operation that *desks* answer; the document tells of *further* ones as well."""
    own = [
        *_prediction_operations(desks.predictions, settings),
        *_reading_operations(desks),
        _label_operation(desks.labels, settings),
        *_probe_operations(desks.probes),
    ]
    document = b""

    async def describe(_asked: Asked) -> Reply:
        return Reply(document)

    own.append(
        Operation(
            "describe",
            "GET",
            DOCUMENT_PATH,
            None,
            "This document",
            Content({"type": "object"}),
            handle=describe,
            tag="service",
        )
    )
    document = orjson.dumps(build_document([*own, *further], settings.events))
    return own


def _prediction_operations(desk: Predictions, settings: Settings) -> list[Operation]:
    limit = settings.api.batch_limit
    batch = {
        "type": "object",
        "properties": {
            "transactions": {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": limit}
        },
        "required": ["transactions"],
        "additionalProperties": False,
    }
    again = (
        "The same `transaction_id` always returns the stored first decision, `repeated`, whether "
        "it came by the stream or from here. A request that timed out may be sent again."
    )
    return [
        Operation(
            "predict",
            "POST",
            "/v1/predictions",
            Scope.PREDICT,
            "Decide one transaction",
            Content(PredictionAnswer, description="The decision that stands"),
            handle=desk.decide,
            description=again,
            parameters=[_DRY_RUN],
            request=Content(_EVENT),
            body_limit=settings.events.max_size_bytes,
            problems=[Kind.CONFLICT, *_BUSY],
            tag="predictions",
        ),
        Operation(
            "predict_batch",
            "POST",
            "/v1/predictions:batch",
            Scope.PREDICT,
            f"Decide up to {limit} transactions",
            Content(BatchAnswer, description="One result a transaction, in order"),
            handle=desk.decide_batch,
            description=f"{again} Each has a result of its own; a 503 or 429 is of all of them.",
            parameters=[_DRY_RUN],
            request=Content(batch),
            body_limit=settings.api.max_body_bytes,
            problems=_BUSY,
            tag="predictions",
        ),
    ]


def _reading_operations(desks: Desks) -> list[Operation]:
    read = Scope.READ
    transaction_id = Parameter("transaction_id", _ID, "The id that the event carried", "path")
    return [
        Operation(
            "find_transactions",
            "GET",
            "/v1/transactions",
            read,
            "Search decisions",
            Content(_PAGE, description="A page, the documents as they are stored"),
            handle=desks.transactions.search,
            parameters=PARAMETERS,
            problems=[Kind.UNAVAILABLE],
            tag="transactions",
        ),
        Operation(
            "read_transaction",
            "GET",
            "/v1/transactions/{transaction_id}",
            read,
            "The whole evidence of one decision",
            Content(_EVIDENCE, description="The document as it is stored, with its label"),
            handle=desks.transactions.read,
            parameters=[transaction_id],
            problems=[Kind.UNKNOWN_TRANSACTION, Kind.UNAVAILABLE],
            tag="transactions",
        ),
        Operation(
            "read_entity",
            "GET",
            "/v1/entities/{type}/{id}",
            read,
            "The features of one entity as of now",
            Content(_ENTITY, description="Name and value of each feature that counts it alone"),
            handle=desks.entities.read,
            parameters=[
                Parameter(
                    "type", _ID, "card, merchant, device … as features.path has them", "path"
                ),
                Parameter("id", _ID, "The value that events carry", "path"),
            ],
            problems=[Kind.NOT_FOUND, Kind.UNAVAILABLE],
            tag="entities",
        ),
        Operation(
            "read_rules",
            "GET",
            "/v1/rules",
            read,
            "The rules in force",
            Content(RulesAnswer),
            handle=desks.catalogue.rules,
            tag="catalogue",
        ),
        Operation(
            "read_models",
            "GET",
            "/v1/models",
            read,
            "Both models, their thresholds and breakers",
            Content(ModelsAnswer),
            handle=desks.catalogue.models,
            tag="catalogue",
        ),
    ]


def _label_operation(desk: LabelDesk, settings: Settings) -> Operation:
    return Operation(
        "label",
        "POST",
        "/v1/labels",
        Scope.LABEL,
        "Say what a transaction turned out to be",
        Content(LabelAnswer, description="What became of the label"),
        handle=desk.label,
        description="As a label event of the stream: repeating it changes nothing, the newest "
        "`label_time` stands.",
        request=Content(_LABEL),
        body_limit=settings.events.max_size_bytes,
        problems=_BUSY,
        tag="labels",
    )


def _probe_operations(probes: Probes) -> list[Operation]:
    health = Content(_HEALTH, description="All is well")
    red = {503: "`problems` says what is wrong"}
    return [
        Operation(
            "read_health",
            "GET",
            "/healthz",
            None,
            "Whether the process works; red means that a restart would help",
            health,
            handle=probes.health,
            statuses=red,
            tag="service",
        ),
        Operation(
            "read_readiness",
            "GET",
            "/readyz",
            None,
            "Whether requests should come here",
            health,
            handle=probes.ready,
            statuses=red,
            tag="service",
        ),
        Operation(
            "read_metrics",
            "GET",
            "/metrics",
            None,
            "Metrics in Prometheus's text format",
            Content({"type": "string"}, PROMETHEUS_TEXT),
            handle=probes.metrics,
            problems=[Kind.FORBIDDEN],
            tag="service",
        ),
    ]
