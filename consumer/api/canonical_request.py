"""
What the text is that a client signs, by the rules of AWS Signature Version 4; pure.

After "Create a signed AWS API request" of the IAM user guide. Clients differ in how they encode a
path and order a query, so that there are several forms. A form is taken only where everything that
has it means the same: otherwise a signature for one request would be good for another.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from posixpath import normpath
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_SPACES: Final = re.compile(r"[ \t]+")
_UNRESERVED: Final = "-_.~"


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request as it came over the wire.

    ``path`` and ``query`` (without the question mark) are percent-encoded as they were
    sent; ``headers`` are pairs of lower-case name and value, in their order. Each is the
    bytes that were sent read as UTF-8 with ``surrogateescape``, so that none is lost.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""


def to_bytes(text: str) -> bytes:
    """The bytes on the wire that *text* was read from."""
    return text.encode("utf-8", "surrogateescape")


def canonical_requests(request: Request, signed: Sequence[str], body_hash: str) -> Iterator[str]:
    """Yield what may be signed of *request*, by the forms of its path and its query."""
    values = gather_headers(request)
    headers = "".join(f"{name}:{','.join(values.get(name, ()))}\n" for name in signed)
    tail = "\n".join([headers, ";".join(signed), body_hash])
    for path, query in product(canonical_paths(request.path), canonical_queries(request.query)):
        yield f"{request.method}\n{path}\n{query}\n{tail}"


def gather_headers(request: Request) -> dict[str, list[str]]:
    """Name → its values in their order, spaces around them removed and those within made one."""
    found: dict[str, list[str]] = {}
    for name, value in request.headers:
        found.setdefault(name, []).append(_SPACES.sub(" ", value.strip(" \t")))
    return found


def canonical_paths(path: str) -> tuple[str, ...]:
    """
    The forms in which clients sign *path*, as it was sent.

    Normalised and encoded once more, as the rules for all services but S3 say; encoded once, as
    clients do that are given a path they did not encode, and curl 8; or as it is, as curl 7
    does. A path with an encoded percent sign has the first form alone: ``/a%252Fb`` as it is
    would equal ``/a%2Fb`` encoded once more. So has one with encoded dots no second form.
    """
    raw = to_bytes(path)
    forms = [quote(_normalise(raw), safe="/" + _UNRESERVED)]
    if "%25" not in path:
        segments = [unquote_to_bytes(each) for each in raw.split(b"/")]
        if not {b".", b".."}.intersection(segments):
            # Segment by segment: an encoded slash is no slash.
            forms.append("/".join(quote(each, safe=_UNRESERVED) for each in segments))
        forms.append(path or "/")
    return tuple(dict.fromkeys(forms))


def _normalise(path: bytes) -> bytes:
    """Without ``.``, ``..`` and doubled slashes; a slash at the end stays."""
    shortened = b"/" + normpath(path).lstrip(b"/") if path else b"/"
    return shortened + b"/" if path.endswith(b"/") and shortened != b"/" else shortened


def canonical_queries(query: str) -> tuple[str, ...]:
    """
    The forms in which clients sign *query*: sorted and encoded anew, sorted, or as it was sent.

    Encoded anew a plus is the space that it is read as, so that none stands for ``%2B``. curl
    before 8.1 does not sort.
    """
    pairs = split_query(query)
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs)
    forms = [_join(encoded)]
    if any("=" not in part for part in query.split("&")):
        # A name without a value is signed with its equals sign, or as it is.
        forms.append(query)
    forms += [_join(sorted(pairs)), _join(pairs)]
    return tuple(dict.fromkeys(forms))


def split_query(query: str) -> list[tuple[str, str]]:
    """Names and values of *query*, encoded as they were sent; what is empty is left out."""
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(name, value) for name, _, value in parts]


def decode_name(name: str) -> str:
    """The name of a parameter as a server reads it."""
    return unquote_to_bytes(to_bytes(name.replace("+", " "))).decode("utf-8", "replace")


def _join(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encode(text: str) -> str:
    """Encode anew whatever way *text* is encoded."""
    return quote(unquote_to_bytes(to_bytes(text.replace("+", " "))), safe=_UNRESERVED)
