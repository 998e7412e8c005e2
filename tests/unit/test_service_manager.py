"""What systemd hears, over a socket like its own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.service_manager import ServiceManager
from tests.fakes.clock import FakeClock


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_systemd_hears_of_start_life_and_end(systemd: socket.socket) -> None:
    clock = FakeClock()
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "120000000"}
    manager = ServiceManager(environment, clock)
    manager.ready()
    manager.alive()
    manager.stopping()
    assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_found() -> None:
    name = f"fraudstream-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}, FakeClock()).ready()
        assert listener.recv(99) == b"READY=1"


def test_a_sign_of_life_is_due_three_times_in_the_limit() -> None:
    clock = FakeClock()
    manager = ServiceManager({"WATCHDOG_USEC": "90000000"}, clock)
    manager.alive()
    found = []
    for pause_s in (29, 2):
        clock.sleep(pause_s)
        found.append(manager.due)
    manager.alive()
    assert [*found, manager.due] == [False, True, False]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_who_does_not_ask_is_told(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment, FakeClock())
    manager.ready()
    assert not manager.due


def test_a_socket_without_a_listener_ends_nothing(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}, FakeClock()).ready()
