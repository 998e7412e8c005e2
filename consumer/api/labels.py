"""``POST /v1/labels``: what a transaction turned out to be."""

from collections.abc import Callable

import msgspec

from consumer.api.operations import Asked, Reply
from consumer.api.predictor import Predictor
from consumer.api.problems import Refused, invalid, rejected
from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.model import Label, LabelOutcome


class LabelAnswer(msgspec.Struct, frozen=True):
    """
    What became of a label: it is ``applied``, was known (``repeated``), gave way to a newer one
    (``superseded``), waits for its transaction (``unmatched``), or changed entity state alone,
    because the document is gone (``expired``).
    """

    label_id: str
    transaction_id: str
    outcome: LabelOutcome


class LabelDesk:
    """Notes labels, decoded by *rules*, by *note* on the thread that decides."""

    def __init__(
        self, predictor: Predictor, note: Callable[[Label], LabelOutcome], rules: DecodeRules
    ) -> None:
        self._predictor = predictor
        self._note = note
        self._rules = rules

    async def label(self, asked: Asked) -> Reply:
        """Note one label, as the stream would."""
        try:
            event = decode(asked.body, self._rules)
        except Rejected as error:
            raise Refused(rejected(error)) from None
        if not isinstance(event, Label):
            raise invalid("type", "transaction", "label; transactions go to /v1/predictions")
        outcome = await self._predictor.run(lambda: self._note(event))
        return Reply(
            msgspec.json.encode(LabelAnswer(event.label_id, event.transaction_id, outcome))
        )
