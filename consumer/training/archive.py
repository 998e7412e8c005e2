"""
The container of a trained model: a deterministic ``model.tar.gz`` with a manifest.

``manifest.json`` holds the model's kind and the SHA-256 of every other member.
In the tar every member but ``xgboost-model`` lies in the folder ``fraudstream``,
which is no part of its name here: the built-in XGBoost container takes each plain
file at the top for a booster, and does not start when one is none
(aws/sagemaker-xgboost-container, ``serve_utils.get_loaded_booster``).
Members are read into memory and checked before anybody parses them; nothing is
unpacked to disk, so a member's name cannot lead out of a folder.
"""

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from consumer.errors import Misconfigured, Problem

Kind = Literal["fraud", "anomaly"]

_MANIFEST: Final = "manifest.json"
_AT_THE_TOP: Final = frozenset({"xgboost-model"})
_FOLDER: Final = "fraudstream/"
# A forest of 100 trees of 256 points takes 8 MB; the limit only stops a broken archive.
_MEMBER_LIMIT_BYTES: Final = 512 * 1024 * 1024


class _Manifest(msgspec.Struct, frozen=True):
    kind: Kind
    sha256: dict[str, str]


def write(path: Path, kind: Kind, members: Mapping[str, bytes]) -> None:
    """
    Write *members* and their manifest as *path*, replacing it whole.

    Equal members give equal bytes: times, owners and modes are constants.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    packed = _pack({**members, _MANIFEST: to_json(_Manifest(kind, digests))})
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(packed)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> tuple[Kind, dict[str, bytes]]:
    """
    Return the kind and the checked members of the archive *path*, or of a folder of its files.

    Raises Misconfigured, naming the member, when the archive cannot be read, has
    no manifest, or a member is missing from either or differs from its hash.
    """
    members = _unpack(path)
    data = members.pop(_MANIFEST, None)
    if data is None:
        raise problem(path, _MANIFEST, "nothing", "this member in the archive")
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
    except msgspec.DecodeError as error:
        raise problem(path, _MANIFEST, str(error), "the manifest of this package") from error
    if members.keys() != manifest.sha256.keys():
        found, expected = sorted(members), sorted(manifest.sha256)
        raise problem(path, _MANIFEST, ", ".join(found), ", ".join(expected))
    for name, digest in manifest.sha256.items():
        actual = hashlib.sha256(members[name]).hexdigest()
        if actual != digest:
            raise problem(path, name, f"SHA-256 {actual}", f"SHA-256 {digest} of the manifest")
    return manifest.kind, members


def to_json(value: object) -> bytes:
    """Encode *value* as JSON that a person can read, the same bytes for equal values."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def problem(path: Path, key: str, found: str, expected: str) -> Misconfigured:
    """Build the error for the member *key* of the archive *path*."""
    return Misconfigured([Problem(str(path), key, found, expected)])


def _pack(members: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(members):
            # A fresh TarInfo has time 0, owner 0 and mode 0644, so equal members pack equally.
            entry = tarfile.TarInfo(name if name in _AT_THE_TOP else _FOLDER + name)
            entry.size = len(members[name])
            archive.addfile(entry, io.BytesIO(members[name]))
    return target.getvalue()


def _unpack(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return _read_folder(path)
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None or entry.size > _MEMBER_LIMIT_BYTES:
                    raise problem(path, entry.name, "no plain file of sane size", "model members")
                # Archives of earlier versions have every member at the top.
                members[entry.name.removeprefix(_FOLDER)] = content.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise problem(path, "model archive", reason, "a model.tar.gz of this package") from error
    return members


def _read_folder(path: Path) -> dict[str, bytes]:
    """Read what SageMaker unpacked: the same members, as files."""
    files = [each for each in path.rglob("*") if each.is_file()]
    if not files:
        raise problem(path, "model archive", "an empty folder", "a model.tar.gz, unpacked")
    names = (each.relative_to(path).as_posix().removeprefix(_FOLDER) for each in files)
    return {name: each.read_bytes() for name, each in zip(names, files, strict=True)}
