"""Dead letters back into the stream, for the daemon to take up."""

from collections.abc import Sequence
from typing import Protocol

from consumer.redrive import Outcome, Ready, Result


class Stream(Protocol):
    """Where records are put."""

    def put(self, entries: Sequence[tuple[str, bytes]]) -> list[str | None]:
        """
        Put (partition key, data); for each None, or the code with which it was refused.

        Raises Unavailable when it is not known which of them are in the stream.
        """
        ...


class StreamDelivery:
    """Sends letters to *stream*, each with its card as the partition key."""

    name = "stream"

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def send(self, letters: Sequence[Ready]) -> list[Outcome]:
        """Put *letters* into the stream; one outcome each, in order. Raises Unavailable."""
        codes = self._stream.put([(each.partition_key, each.data) for each in letters])
        return [
            Outcome(each.filed.letter.letter_id, Result.SENT)
            if code is None
            else Outcome(
                each.filed.letter.letter_id, Result.REFUSED, code, "the stream did not take it"
            )
            for each, code in zip(letters, codes, strict=True)
        ]
