"""The REST service of a demo: started, asked, and shown to whoever goes on with it."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

from consumer.clock import SystemClock
from consumer.errors import Unavailable
from consumer.local.demo_place import Place, await_rows, read_document
from consumer.local.demo_rest import Kept, RestCheck, RestRun
from consumer.local.service import AccessKey, Client, ServiceProcess
from consumer.local.simulator.ledger import LedgerWriter
from consumer.settings import SHIPPED


@dataclass(frozen=True, slots=True)
class Service:
    """The running REST service and the demo's key to it."""

    process: ServiceProcess
    key: AccessKey

    @classmethod
    def start(
        cls, environment: Mapping[str, str], daemon_url: str, directory: Path, closes: ExitStack
    ) -> "Service":
        """Start it with a new key in *directory*; *closes* ends it. Raises Unavailable."""
        access = directory / "access.json"
        key = AccessKey.make(access)
        process = ServiceProcess(environment, daemon_url, access, SHIPPED / "fraudstream.yaml")
        closes.enter_context(process)
        process.await_ready()
        return cls(process, key)

    @property
    def variables(self) -> Mapping[str, str]:
        """What another shell needs to speak to it, and to start one like it."""
        return {
            **self.process.address,
            "DEMO_API_URL": self.process.url,
            "DEMO_API_USER": f"{self.key.key_id}:{self.key.secret}",
        }

    def link(self) -> str:
        """A new link to the live page. Raises Unavailable where the service gives none."""
        with Client(self.process.url, self.key) as client:
            answer = client.ask("POST", "/v1/session/tokens", {"name": "demo"})
        if not isinstance(answer.body, dict) or "link" not in answer.body:
            raise Unavailable("service", f"no link to the page: {answer.body}")
        return f"{self.process.url}{answer.body['link']}"

    def ask(self, kept: Kept, writer: LedgerWriter, place: Place) -> RestCheck:
        """Run the part over REST, and wait until its rows went to Firehose."""
        stored = partial(read_document, place)
        run = RestRun(self.process.url, self.key, kept, writer, stored, SystemClock().now_ms)
        try:
            check = run.run()
            self._sign_in(check)
        except OSError as error:
            self.process.check()
            raise Unavailable("service", f"does not answer: {error}") from error
        await_rows(place)
        return check

    def _sign_in(self, check: RestCheck) -> None:
        """See that a link to the live page signs in once."""
        _, _, token = self.link().partition("#token=")
        with Client(self.process.url, None) as client:
            # As a browser says where a page came from.
            headers = {"Content-Type": "application/json", "Origin": self.process.url}
            body = json.dumps({"token": token}).encode()
            statuses = [client.send("POST", "/v1/session", body, headers).status for _ in range(2)]
        if statuses != [HTTPStatus.OK, HTTPStatus.UNAUTHORIZED]:
            check.failures.append(f"REST: a link to the live page, used twice, got {statuses}")
