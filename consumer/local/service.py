"""The REST service as a child of the demo, an access key for it, and a client that signs."""

import http.client
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from consumer.errors import Unavailable
from consumer.local.child import Child
from consumer.local.ports import HOST, listen, port_of
from consumer.local.resources import REGION

_POLL_S = 0.1
_READY_LIMIT_S = 60.0
_SERVICE = "execute-api"
_OK = 200


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of the service's own list, with every scope."""

    key_id: str
    secret: str

    @classmethod
    def make(cls, path: Path) -> "AccessKey":
        """Make one, and write the list of access with it to *path*, for its owner's eyes alone."""
        key = cls(f"FSDEMO{secrets.token_hex(6).upper()}", secrets.token_urlsafe(32))
        listed = {
            "access_key_id": key.key_id,
            "secret_access_key": key.secret,
            "name": "demo",
            "scopes": ["admin"],
        }
        # JSON is YAML, too.
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"keys": [listed]}, file)
        return key


class ServiceProcess(Child):
    """``fraudstream serve`` on a free port, with the settings of *daemon* and *key*'s list."""

    def __init__(
        self, environment: Mapping[str, str], daemon_url: str, access: Path, config: Path
    ) -> None:
        probe = listen(0, "service")
        self.port = port_of(probe)
        probe.close()
        self.address = {
            "FRAUDSTREAM_API__HOST": HOST,
            "FRAUDSTREAM_API__PORT": str(self.port),
            "FRAUDSTREAM_API__AUTH__ACCESS_FILE": str(access),
            "FRAUDSTREAM_API__DAEMON_URLS": json.dumps([daemon_url]),
        }
        words = ["serve", "--config", str(config)]
        super().__init__("service", words, {**environment, **self.address}, access.parent)

    @property
    def url(self) -> str:
        """Where the service answers."""
        return f"http://{HOST}:{self.port}"

    def await_ready(self) -> None:
        """Wait until ``/readyz`` is green. Raises Unavailable when it does not become so."""
        deadline_s = time.monotonic() + _READY_LIMIT_S
        while time.monotonic() < deadline_s:
            self.check()
            try:
                with Client(self.url, None) as client:
                    if client.ask("GET", "/readyz").status == _OK:
                        return
            except OSError:
                pass
            time.sleep(_POLL_S)
        raise Unavailable("service", f"not ready after {_READY_LIMIT_S:.0f} s:\n{self.tail()}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said."""

    status: int
    body: Any


class Client:
    """One connection to *url* whose requests *key* signs, if there is one; a context manager."""

    def __init__(self, url: str, key: AccessKey | None) -> None:
        self._url = url
        self._key = key
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self.signed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send *body* as JSON. Raises OSError where nobody answers."""
        data = b"" if body is None else json.dumps(body).encode()
        return self.send(method, path, data, self.sign(method, path, data))

    def sign(self, method: str, path: str, data: bytes) -> dict[str, str]:
        """Return the headers of a request, signed as botocore does it."""
        headers = {"Content-Type": "application/json"} if data else {}
        if self._key is None:
            return headers
        request = AWSRequest(method, self._url + path, data=data, headers=headers)
        credentials = Credentials(self._key.key_id, self._key.secret)
        SigV4Auth(credentials, _SERVICE, REGION).add_auth(request)
        self.signed += 1
        return {name: str(value) for name, value in request.headers.items()}

    def send(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """Send the request as it is."""
        self._connection.request(method, path, data or None, dict(headers))
        response = self._connection.getresponse()
        text = response.read()
        return Answer(response.status, json.loads(text) if text else None)
