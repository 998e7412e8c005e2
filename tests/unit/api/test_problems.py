"""Problem documents: what they repeat of a request, and how."""

import orjson
import pytest

from consumer.api.problems import FieldError, Kind, Problem

CARD = "4111111111111111"


@pytest.mark.parametrize("written", [CARD, "4111 1111 1111 1111", "4111-1111-1111-1111"])
def test_a_card_number_stands_nowhere_in_a_problem(written: str) -> None:
    error = FieldError(f"a.{written}", f"the name {written}", f"another than {written}")
    problem = Problem(Kind.INVALID, f"the header {written} is not there", [error])
    body = problem.body(f"/v1/entities/card/{written}")
    assert written.encode() not in body
    assert orjson.loads(body)["detail"] == "the header [pan] is not there"
    assert orjson.loads(body)["errors"][0]["field"] == "a.[pan]"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/predictions:batch", "/v1/predictions:batch"),
        ("/v1/transactions/a b\r\n<", "/v1/transactions/a%20b%0D%0A%3C"),
        ("/v1/transactions/ä", "/v1/transactions/%C3%A4"),
        ("/v1/transactions/%zz", "/v1/transactions/%25zz"),
        (f"/v1/entities/card/{CARD}", "/v1/entities/card/%5Bpan%5D"),
    ],
)
def test_the_instance_is_a_reference_to_the_path_that_was_asked_for(path: str, shown: str) -> None:
    assert Problem(Kind.NOT_FOUND).fields(path)["instance"] == shown


def test_bytes_of_a_header_that_are_no_text_do_not_break_the_answer() -> None:
    told = b"\xff".decode("utf-8", "surrogateescape")
    body = Problem(Kind.UNAUTHENTICATED, f"not for {told}").body(f"/{told}")
    assert orjson.loads(body)["detail"] == "not for ?"
