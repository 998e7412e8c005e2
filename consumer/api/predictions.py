"""``POST /v1/predictions`` and ``POST /v1/predictions:batch``: transactions to decisions."""

import json
from collections.abc import Callable, Mapping, Sequence

import msgspec
import orjson

from consumer.api.answers import Answer, Conflict, Prediction, ScoresAnswer
from consumer.api.operations import Asked, Reply
from consumer.api.predictor import Predictor
from consumer.api.problems import FieldError, Kind, Problem, Refused, invalid, rejected
from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.json_checks import check_depth
from consumer.model import Outcome, Transaction

_TRUTH = {"true": True, "false": False}
_BATCH_LEVELS = 2


class PredictionAnswer(msgspec.Struct, frozen=True):
    """
    The decision that stands for a transaction.

    ``repeated`` says that it was made before this request, by ``source``; ``degraded`` names the
    scores that were missing, with the cause; ``risk`` is the fraud score with what rules added.
    """

    transaction_id: str
    prediction_id: str
    outcome: Outcome
    reasons: tuple[str, ...]
    texts: tuple[str, ...]
    scores: ScoresAnswer
    risk: float | None
    rules: tuple[str, ...]
    degraded: tuple[str, ...]
    decided_ms: int
    source: str
    repeated: bool
    dry_run: bool


class ProblemAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem after RFC 9457; ``errors`` names the fields that are concerned."""

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    errors: tuple[FieldError, ...] | None = None


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one transaction of a batch: ``prediction`` with status 200, or ``problem``."""

    status: int
    prediction: PredictionAnswer | None = None
    problem: ProblemAnswer | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """One result a transaction, in the order of the request."""

    results: tuple[Result, ...]


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    transactions: list[msgspec.Raw]


class Predictions:
    """
    Decides what requests carry, by *rules*; at most *batch_limit* transactions at once.

    *count* hears what became of each transaction.
    """

    def __init__(
        self,
        predictor: Predictor,
        rules: DecodeRules,
        batch_limit: int,
        count: Callable[[str], None],
    ) -> None:
        self._predictor = predictor
        self._rules = rules
        self._batch_limit = batch_limit
        self._count = count

    async def decide(self, asked: Asked) -> Reply:
        """The decision on one transaction."""
        dry_run = read_dry_run(asked.query)
        transaction = self._read(asked.body)
        (answer,) = await self._predictor.predict([transaction], dry_run=dry_run)
        self._tell(answer)
        if isinstance(answer, Prediction):
            return Reply(msgspec.json.encode(describe(answer)))
        raise Refused(answer if isinstance(answer, Problem) else conflict(answer))

    async def decide_batch(self, asked: Asked) -> Reply:
        """A result for each of several transactions."""
        dry_run = read_dry_run(asked.query)
        parts = self._read_batch(asked.body)
        found: list[Transaction | Problem] = []
        for place, part in enumerate(parts):
            try:
                found.append(self._read(bytes(part), f"transactions[{place}]."))
            except Refused as error:
                found.append(error.problem)
        asking = [each for each in found if isinstance(each, Transaction)]
        answers = iter(await self._predictor.predict(asking, dry_run=dry_run) if asking else ())
        results = []
        for each in found:
            answer: Answer | Problem = each if isinstance(each, Problem) else next(answers)
            self._tell(answer)
            results.append(_result(answer))
        return Reply(orjson.dumps({"results": results}))

    def _read(self, body: bytes, place: str = "") -> Transaction:
        try:
            event = decode(body, self._rules)
        except Rejected as error:
            raise Refused(rejected(error, place)) from None
        if not isinstance(event, Transaction):
            raise invalid(f"{place}type", "label", "transaction; labels go to /v1/labels")
        return event

    def _read_batch(self, body: bytes) -> Sequence[msgspec.Raw]:
        try:
            check_depth(body, self._rules.max_depth + _BATCH_LEVELS)
            body.decode()
            parts = msgspec.json.decode(body, type=_Batch).transactions
            _check_once(body)
        except Rejected as error:
            raise Refused(rejected(error)) from None
        except msgspec.ValidationError:
            expected = 'an object such as {"transactions": [{…}, …]}, and nothing else'
            raise invalid("body", "something else", expected) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            detail = "expected one JSON object (RFC 8259) in UTF-8"
            raise Refused(Problem(Kind.NOT_JSON, detail)) from None
        if not 1 <= len(parts) <= self._batch_limit:
            expected = f"1 to {self._batch_limit} transactions"
            raise invalid("transactions", f"{len(parts)}", expected)
        return parts

    def _tell(self, answer: Answer | Problem) -> None:
        if isinstance(answer, Prediction):
            done = "repeated" if answer.repeated else "decided"
            self._count("dry_run" if answer.dry_run else done)
        else:
            self._count("conflict" if isinstance(answer, Conflict) else "failed")


def _check_once(body: bytes) -> None:
    """Raise Refused where ``transactions`` stands twice in *body*, since the last would count."""
    if body.count(b'"transactions"') == 1 and b"\\" not in body:
        return
    # Every object as its pairs; numbers stay text, because Python refuses to read very long ones.
    pairs = json.loads(body, object_pairs_hook=list, parse_int=str, parse_float=str)
    if len(pairs) > 1:
        raise invalid("transactions", "several", "once")


def read_dry_run(query: Mapping[str, str]) -> bool:
    """Whether the parameter ``dry_run`` asks for that. Raises Refused."""
    told = query.get("dry_run", "false")
    if told not in _TRUTH:
        raise invalid("dry_run", "something else", "true or false")
    return _TRUTH[told]


def describe(prediction: Prediction) -> PredictionAnswer:
    """*prediction* as it is answered."""
    found = prediction.found
    return PredictionAnswer(
        transaction_id=found.transaction_id,
        prediction_id=found.prediction_id,
        outcome=Outcome(found.decision.outcome),
        reasons=found.decision.reasons,
        texts=found.decision.texts,
        scores=found.scores,
        risk=found.decision.risk,
        rules=found.rules.hits,
        degraded=found.degraded,
        decided_ms=found.decided_ms,
        source=found.origin.source,
        repeated=prediction.repeated,
        dry_run=prediction.dry_run,
    )


def conflict(found: Conflict) -> Problem:
    """The problem of an id that was decided with other content; no value is told."""
    named = ", ".join(found.fields)
    detail = f"this transaction_id was decided before with another {named}; it stays so"
    errors = [
        FieldError(name, "another value than was decided on", "the content of the first request")
        for name in found.fields
    ]
    return Problem(Kind.CONFLICT, detail, errors)


def _result(answer: Answer | Problem) -> dict[str, object]:
    if isinstance(answer, Prediction):
        prediction = orjson.Fragment(msgspec.json.encode(describe(answer)))
        return {"status": 200, "prediction": prediction}
    problem = answer if isinstance(answer, Problem) else conflict(answer)
    return {"status": problem.kind.status.value, "problem": problem.fields()}
