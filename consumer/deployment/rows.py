"""
Training rows as the built-in algorithms read them: CSV files without a header.

``fraud``: label, weight, features. ``anomaly``: the inputs of the forest alone, already
transformed, so that the trees see what those trained here see. Numbers have the fewest
digits that give back the same single precision.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.deployment.calls import Call
from consumer.training.examples import Part
from consumer.training.scaling import Scaling

Rows = npt.NDArray[np.float32]

ROWS_A_FILE: Final = 100_000
_ROWS_AT_ONCE: Final = 5_000
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Channel:
    """The files of one channel, and the beginning of the SHA-256 of what they hold."""

    name: str
    files: tuple[Path, ...]
    rows: int
    digest: str


def write_labelled(part: Part, folder: Path, name: str) -> Channel:
    """Write label, weight and features of *part* into *folder*, as the channel *name*."""
    columns = np.column_stack((part.fraud.astype(np.float32), part.weights, part.rows))
    return _write(columns, folder, name)


def write_inputs(part: Part, front: Scaling, folder: Path) -> Channel:
    """Write the inputs of the forest into *folder*, as the channel ``train``."""
    return _write(front.apply(part.rows), folder, "train")


def build_uploads(
    channels: Sequence[Channel], bucket: str, prefix: str
) -> tuple[dict[str, str], list[Call]]:
    """
    Return channel → ``s3://`` prefix, and the calls that put the files there.

    The digest is part of the key: other rows never replace those a job was trained on.
    """
    urls, calls = {}, []
    for channel in channels:
        folder = f"{prefix}rows/{channel.digest}/{channel.name}/"
        urls[channel.name] = f"s3://{bucket}/{folder}"
        calls += [
            Call("s3", "put_object", {"Bucket": bucket, "Key": folder + file.name, "Body": file})
            for file in channel.files
        ]
    return urls, calls


def _write(columns: Rows, folder: Path, name: str) -> Channel:
    digest = hashlib.sha256()
    files = []
    for number, first in enumerate(range(0, len(columns), ROWS_A_FILE)):
        path = folder / f"{name}-{number:05}.csv"
        with path.open("wb") as file:
            for lines in _lines(columns[first : first + ROWS_A_FILE]):
                file.write(lines)
                digest.update(lines)
        files.append(path)
    return Channel(name, tuple(files), len(columns), digest.hexdigest()[:_DIGITS])


def _lines(columns: Rows) -> Iterator[bytes]:
    for first in range(0, len(columns), _ROWS_AT_ONCE):
        # str of a single-precision number is the shortest that reads back as the same.
        texts = columns[first : first + _ROWS_AT_ONCE].astype(str)
        yield "".join(",".join(row) + "\n" for row in texts.tolist()).encode()
