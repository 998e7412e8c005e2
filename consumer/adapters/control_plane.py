"""
The calls of training and deployment: SageMaker's control plane, S3, CloudWatch Logs, scaling.

This is the one layer that repeats: what is throttled, fails on AWS's side or gets no answer
is asked again with growing pauses, because a deployment of ten minutes should not end by one
lost packet. A change that was made though its answer was lost is refused as existing when it
is told again, which callers expect.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name for what did not arrive
    HTTPClientError,
    ParamValidationError,
)

from consumer.deployment.calls import Call, Refused, Service
from consumer.errors import Unavailable
from consumer.patience import Sleep, pauses_s

Shape = TypeVar("Shape")

ATTEMPTS: Final = 6
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 20.0
_THROTTLED: Final = frozenset(
    {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}
    | {"SlowDown", "RequestTimeout", "ServiceUnavailable", "ConcurrentUpdateException"}
)
_FAILED_STATUS: Final = 500


class ControlPlane:
    """A Control over botocore's clients, which *make_client* makes and which retry nothing."""

    def __init__(self, make_client: Callable[[Service], Any], sleep: Sleep) -> None:
        self._make_client = make_client
        self._sleep = sleep
        self._clients: dict[Service, Any] = {}

    def ask(self, call: Call, shape: type[Shape]) -> Shape:
        """Return the answer to *call* as a *shape*. Raises Refused and Unavailable."""
        return _convert(call, self._repeat(call), shape)

    def ask_all(self, call: Call, shape: type[Shape]) -> Iterator[Shape]:
        """Yield the answer to *call* page by page. Raises Refused and Unavailable."""
        token: str | None = None
        while True:
            more = {} if token is None else {"NextToken": token}
            page = self._repeat(Call(call.service, call.operation, {**call.parameters, **more}))
            yield _convert(call, page, shape)
            token = page.get("NextToken")
            if not token:
                return

    def tell(self, call: Call) -> None:
        """Carry *call* out; a Path among its parameters stands for its content. As above."""
        self._repeat(call)

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()

    def _repeat(self, call: Call) -> Any:
        for attempt, pause_s in enumerate(pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), start=1):
            try:
                return self._attempt(call)
            except _Passing as error:
                if attempt == ATTEMPTS:
                    raise Unavailable("aws", f"{error}, {ATTEMPTS} times") from error
            self._sleep(pause_s)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _attempt(self, call: Call) -> Any:
        if call.service not in self._clients:
            self._clients[call.service] = self._make_client(call.service)
        operation = getattr(self._clients[call.service], call.operation)
        with ExitStack() as stack, _translated(call):
            parameters = {
                key: stack.enter_context(value.open("rb")) if isinstance(value, Path) else value
                for key, value in call.parameters.items()
            }
            return operation(**parameters)


class _Passing(Exception):
    """What another attempt may not meet again."""


@contextmanager
def _translated(call: Call) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        text = error.response.get("Error", {}).get("Message", "no reason given")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _THROTTLED or status >= _FAILED_STATUS:
            raise _Passing(f"{call.operation}: {code}: {text}") from error
        raise Refused(call.operation, code, text) from error
    except ParamValidationError as error:
        raise Refused(call.operation, "InvalidParameter", str(error)) from error
    except (ConnectionError, HTTPClientError) as error:
        raise _Passing(f"{call.operation}: {type(error).__name__}") from error
    except BotoCoreError as error:
        raise Unavailable("aws", f"{call.operation}: {error}") from error


def _convert(call: Call, answer: object, shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        # An emulator, or a proxy, that answers something else.
        raise Unavailable("aws", f"{call.operation}: an answer that has {error}") from error
