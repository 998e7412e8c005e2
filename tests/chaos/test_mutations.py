"""The protections that ``make mutations`` takes out are still where it looks for them."""

import pytest

from tests.chaos.cases import load
from tests.chaos.mutations import MUTATIONS, ROOT, Mutation
from tests.chaos.registry import CASES

load()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each.name for each in MUTATIONS])
def test_a_protection_stands_once_and_something_is_to_notice_that_it_is_gone(
    mutation: Mutation,
) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.found) == 1
    if mutation.notices.endswith(".py"):
        assert (ROOT / mutation.notices).is_file()
    else:
        assert any(mutation.notices in name for name in CASES)


def test_what_a_guarantee_rests_on_is_noticed_by_a_case_of_that_name() -> None:
    """Only where the suite itself is broken its own tests have to notice."""
    for mutation in MUTATIONS:
        own = mutation.guarantee == "the checker itself"
        assert own == mutation.notices.endswith(".py"), mutation.name


def test_every_guarantee_has_a_protection_that_is_taken_out() -> None:
    assert {mutation.guarantee[0] for mutation in MUTATIONS} >= set("12345678")
