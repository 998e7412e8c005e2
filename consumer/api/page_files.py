"""The files of the live page, read once, and the headers that keep it to itself."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from consumer.api.problems import Kind, Problem, Refused

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
HEADERS: Final = {
    # Nothing from elsewhere, nothing inline, nothing framed: what got into a page could not act.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Asked for anew, answered by 304 while it is the same: a new version is seen at once.
    "Cache-Control": "no-cache",
}


class PageFiles:
    """``index.html`` at the root, everything under ``/ui/``; the same for everybody."""

    def __init__(self) -> None:
        page = files("consumer.api").joinpath("page")
        self._files = {name: (content, _tag(content)) for name, content in _walk(page, "")}

    @property
    def names(self) -> frozenset[str]:
        """Every file, by its path below the page's folder."""
        return frozenset(self._files)

    def answer(self, request: Request) -> Response:
        """Answer with the file that *request* names. Raises Refused."""
        name = request.path_params.get("name", "index.html")
        found = self._files.get(name)
        media_type = _TYPES.get(name.rpartition(".")[2])
        if found is None or media_type is None:
            raise Refused(Problem(Kind.NOT_FOUND))
        content, tag = found
        headers = {**HEADERS, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _walk(each, f"{prefix}{each.name}/")
        else:
            yield prefix + each.name, each.read_bytes()


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
