"""
An embedded Redis whose content can be put aside at a point, and taken up from there again.

For replays: what they leave in entity state belongs to a place in the history, and a process
that is killed has to find the state of exactly that place.
"""

import os
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.errors import Unavailable
from consumer.local.redis_server import RedisServer

_DUMP = "dump.rdb"
_PREFIX = "snapshot-"
# Loading a snapshot: some 100 MB a second, measured.
_LOADING_S = 600.0


class ScratchRedis:
    """
    A server of entity state with its snapshots in *folder*; a context manager.

    It begins with *snapshot*, or empty; other snapshots there are removed, and so is
    everything that was not put aside.
    """

    def __init__(self, folder: Path, snapshot: str | None = None) -> None:
        self._folder = folder
        self._server = RedisServer(
            modules=False,
            directory=folder,
            options=("--rdbcompression", "yes"),
            ready_timeout_s=_LOADING_S,
        )
        self._snapshot = snapshot
        self._number = 0 if snapshot is None else int(snapshot.removeprefix(_PREFIX)[:-4])

    @property
    def url(self) -> str:
        """Its address, while it runs."""
        return self._server.url

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._server.pid

    def __enter__(self) -> Self:
        """Start it. Raises Misconfigured without the wheels, and Unavailable."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _DUMP).unlink(missing_ok=True)
        self._forget()
        if self._snapshot is not None:
            found = self._folder / self._snapshot
            if not found.exists():
                raise Unavailable("redis", f"the snapshot {found} of this replay is gone")
            # The server replaces its dump, and never writes into it.
            os.link(found, self._folder / _DUMP)
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it; what was put aside stays."""
        self._server.stop()

    def put_aside(self) -> str:
        """
        Write the content as it is now to a snapshot and return its name.

        The snapshot before it stays until ``forget_others``. Raises Unavailable where the
        disk does not take it.
        """
        with closing(self._client()) as client:
            client.bgsave()
            while True:
                facts: dict[str, object] = client.info("persistence")
                if not facts["rdb_bgsave_in_progress"]:
                    break
                time.sleep(0.005)
            if facts["rdb_last_bgsave_status"] != "ok":
                raise Unavailable("redis", f"no snapshot could be written to {self._folder}")
        self._number += 1
        self._snapshot = f"{_PREFIX}{self._number:06}.rdb"
        dump = self._folder / _DUMP
        with dump.open("rb") as file:
            os.fsync(file.fileno())
        dump.replace(self._folder / self._snapshot)
        return self._snapshot

    def forget_others(self) -> None:
        """Remove the snapshots before the newest, which is known where it has to be by now."""
        self._forget()

    def used_bytes(self) -> int:
        """Memory that its data takes."""
        with closing(self._client()) as client:
            memory: dict[str, int] = client.info("memory")
        return int(memory["used_memory"])

    def _forget(self) -> None:
        for path in self._folder.glob(f"{_PREFIX}*.rdb"):
            if path.name != self._snapshot:
                path.unlink()

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=60.0)
