"""Data sets by ``fraudstream replay``, kept in ``.quality`` for as long as nothing changes."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from consumer.errors import Misconfigured, Problem

HERE = Path(__file__).parent
MAPPING = HERE / "mapping.yaml"
LABEL_DELAY = "7d"

_PACKAGE = HERE.parents[1] / "consumer"
# What decides about a data set: the list of features, and the code between a row and its vector.
_CODE = ("features", "replay", "adapters/redis", "training/dataset_file.py", "decode.py")
_COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A data set and the summary of the replay that wrote it, this time or an earlier one."""

    path: Path
    summary: dict[str, Any]
    kept: bool


def check_data(path: Path) -> None:
    """Raise Misconfigured where *path* is no Parquet file of the handbook's columns."""
    # pyarrow takes a third of a second, which a mistaken argument need not wait for.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    if not path.is_file():
        raise _problem(str(path), "no such file", "a Parquet file of the handbook's transactions")
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise _problem(str(path), str(error).partition("\n")[0], "a Parquet file") from error
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise _problem(str(path), f"columns {', '.join(names)}", f"also {', '.join(missing)}")


def replay(data: Path, features: Path, folder: Path, say: Say) -> Replayed:
    """
    Replay *data* into a data set of the list *features* on a scratch Redis.

    One that was made of the same data by the same list and code is taken as it is. Raises
    Misconfigured where the replay fails or leaves a row out.
    """
    name = f"{features.stem}-{_fingerprint(data, features)}"
    path, summary = folder / f"{name}.parquet", folder / f"{name}.json"
    if path.is_file() and summary.is_file():
        say(f"{path} is there already")
        return Replayed(path, orjson.loads(summary.read_bytes()), kept=True)
    _remove(*folder.glob(f"{features.stem}-*.*"))
    command = [sys.executable, "-m", "consumer", "replay", str(data), "--mapping", str(MAPPING)]
    command += ["--label-delay", LABEL_DELAY, "--to", "dataset", str(path), "--scratch"]
    say("$ FRAUDSTREAM_FEATURES__PATH=" + " ".join([str(features), "fraudstream", *command[3:]]))
    environment = os.environ | {"FRAUDSTREAM_FEATURES__PATH": str(features.resolve())}
    command += ["--restart", "--max-rejects", "0", "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise _problem(str(data), f"a replay that ended with {done.returncode}", "0; see above")
    told: dict[str, Any] = orjson.loads(done.stdout)
    if told["counts"].get("rejected"):
        found = f"{told['counts']['rejected']} rows that are no valid event"
        raise _problem(str(data), found, "none, or figures would lack them")
    summary.write_bytes(orjson.dumps(told))
    _remove(path.with_name(f"{path.name}.replay"))
    return Replayed(path, told, kept=False)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _fingerprint(data: Path, features: Path) -> str:
    digest = hashlib.sha256()
    for path in (data, features, MAPPING, *_sources()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _sources() -> Iterator[Path]:
    for name in _CODE:
        place = _PACKAGE / name
        found = place.rglob("*") if place.is_dir() else iter([place])
        yield from sorted(path for path in found if path.suffix in {".py", ".lua"})


def _problem(source: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(source, "DATA", found, expected)])
