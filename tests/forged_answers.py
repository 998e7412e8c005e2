"""
The table of forged requests in docs/rest-access.md: ``python -m tests.forged_answers`` writes it.

Each row is the answer of a real server to a request that was sent to it byte for byte.
"""

import re
from pathlib import Path

from tests.access_server import AccessServer, serve
from tests.forged_requests import build_detours, build_forgeries

PAGE = Path(__file__).parents[1] / "docs" / "rest-access.md"
BEGIN, END = "<!-- forged requests: begin -->\n", "<!-- forged requests: end -->"
_TIME = re.compile(r"\d{8}T\d{6}Z")


def render_table(server: AccessServer) -> str:
    """One row a forged request: what it is, the status, and what its sender is told."""
    rows = ["| request | answer | detail |", "|---|---|---|"]
    forged = {**build_forgeries(server.host), **build_detours(server.host)}
    for name, (request, _) in forged.items():
        answer = server.send(request)
        problem = "problem+json" in answer.headers.get("content-type", "")
        detail = str(answer.fields["detail"]) if problem else "refused by the HTTP server"
        shown = _TIME.sub("<time>", detail.replace(server.host, "<host>")).replace("|", "\\|")
        shown = shown.replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
        rows.append(f"| {name} | {answer.status} | {shown} |")
    return "\n".join(rows) + "\n"


def write() -> None:
    """Write the table into the page."""
    with serve() as server:
        table = render_table(server)
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + BEGIN + table + END + tail, "utf-8")


if __name__ == "__main__":
    write()
