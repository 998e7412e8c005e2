"""Server-Sent Events as a response: bounded in time, and ended by whoever leaves first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consumer.api.live import Message

MEDIA_TYPE: Final = "text/event-stream"

# What a client that came back by itself proves anew: who it is.
_LIFETIME_S = 600.0
# A client that takes nothing for so long is gone; what waits for him is one message.
_SEND_S = 20.0
_RETRY_MS = 2_000


class EventStream(Response):
    """Sends *messages* as they come, a comment for None, until they or the client end."""

    media_type = MEDIA_TYPE

    def __init__(self, messages: AsyncIterator[Message | None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer one request of ASGI 3."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LIFETIME_S), aclosing(self._events()) as events:  # type: ignore[type-var]
                async for event in events:
                    async with asyncio.timeout(_SEND_S):
                        part = {"type": "http.response.body", "body": event, "more_body": True}
                        await send(part)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % _RETRY_MS
        async with aclosing(self._messages) as messages:  # type: ignore[type-var]
            async for message in messages:
                yield b": nothing happened\n\n" if message is None else encode(message)


def encode(message: Message) -> bytes:
    """*message* as the event stream format of the HTML standard has it."""
    identity = b"" if message.cursor is None else b"id: %s\n" % message.cursor.encode()
    data = message.data.replace(b"\n", b"\ndata: ")
    return b"%sevent: %s\ndata: %s\n\n" % (identity, message.name.encode(), data)


async def _left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
