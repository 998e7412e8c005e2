"""
The process around the service: a socket, uvicorn, and the order in which all of it ends.

On SIGTERM ``/readyz`` turns red first, so that load balancers send requests elsewhere; then the
port is closed and what was accepted is answered; then the engine ends, and last the rows go out.
"""

import asyncio
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import uvicorn
import uvloop

from consumer.api.http_connection import Bounds, bounded
from consumer.api.opening import Opened, open_service
from consumer.api.probes import Probes
from consumer.clock import Clock, SystemClock
from consumer.errors import Misconfigured, Problem
from consumer.garbage import calm_garbage_collector
from consumer.logs import configure, get_logger
from consumer.rest_checkup import OTHER_FILES
from consumer.service_manager import ServiceManager
from consumer.settings import Api, Settings

_log = get_logger(__name__)

_BACKLOG = 2_048
_KEEP_ALIVE_S = 75
_ROWS_S = 10.0
_SIGN_S = 1.0
# The engine's thread gives the interpreter up as soon as a request is to be answered.
_SWITCH_S = 0.0005


def serve(settings: Settings, clock: Clock, out: TextIO) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Prints where to sign in on *out*."""
    configure(settings.logs.level, settings.logs.format)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.api))
        opened = open_service(settings, clock, stack)
        calm_garbage_collector()
        sys.setswitchinterval(_SWITCH_S)
        uvloop.run(_serve(opened, listener, settings.api, out))
        if opened.publisher is not None:
            opened.publisher.close(_ROWS_S)
    _log.info("stopped")
    return 0


def listen(api: Api) -> socket.socket:
    """A socket at the address of *api*. Raises Misconfigured where that cannot be had."""
    family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
    try:
        return socket.create_server((api.host, api.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        found = f"{api.host}:{api.port} ({error.strerror})"
        expected = "an address of this machine with a free port, or port 0"
        raise Misconfigured([Problem("settings", "api.port", found, expected)]) from error


def allow_connections(wanted: int) -> int:
    """Let the process have *wanted* connections; return how many the system grants, in the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        granted = max(1, hard - OTHER_FILES)
        _log.warning("fewer connections than api.connection_limit", granted=granted, files=hard)
        wanted, needed = granted, hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return wanted


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, which would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _build_server(opened: Opened, api: Api) -> _Server:
    bounds = Bounds(allow_connections(api.connection_limit), api.timeout_ms / 1000)
    return _Server(
        uvicorn.Config(
            opened.app,
            http=bounded(bounds, opened.refused),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # What a client says of where it comes from is not believed.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(api.drain_limit_s),
        )
    )


async def _serve(opened: Opened, listener: socket.socket, api: Api, out: TextIO) -> None:
    server = _build_server(opened, api)
    opened.predictor.start()
    if opened.publisher is not None:
        opened.publisher.start()
    loop = asyncio.get_running_loop()
    manager = ServiceManager(os.environ, SystemClock())
    drains: set[asyncio.Task[None]] = set()

    def stop() -> None:
        if drains:
            server.force_exit = True
        drains.add(loop.create_task(_drain(opened, server, api, manager)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    _announce(opened, listener, api, out)
    signing = loop.create_task(_sign(opened.probes, manager))
    manager.ready()
    await server.serve(sockets=[listener])
    signing.cancel()
    # Nobody waits for an answer any more.
    await asyncio.to_thread(opened.predictor.close)


async def _sign(probes: Probes, manager: ServiceManager) -> None:
    """Give the service manager signs of life while ``/healthz`` is green."""
    while manager.interval_s is not None:
        if manager.due and probes.well:
            manager.alive()
        await asyncio.sleep(_SIGN_S)


async def _drain(opened: Opened, server: uvicorn.Server, api: Api, manager: ServiceManager) -> None:
    _log.info("draining")
    manager.stopping()
    opened.readiness.drain()
    await opened.feed.live.close()
    await asyncio.sleep(api.drain_delay_s)
    server.should_exit = True


def _announce(opened: Opened, listener: socket.socket, api: Api, out: TextIO) -> None:
    port = listener.getsockname()[1]
    host = f"[{api.host}]" if ":" in api.host else api.host
    _log.info("serving", host=api.host, port=port)
    token = opened.access.sessions.issue_token()
    out.write(
        f"fraudstream: the live page, good for one sign-in: http://{host}:{port}/#token={token}\n"
    )
    out.flush()
