"""What is shown of rows and events: amounts readable, card numbers not."""

import pytest

from consumer.replay.shown import show, show_event


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"amount":8.3000000000000007,"x":1}', '{"amount":8.30…,"x":1}'),
        ('{"amount":"-8.3000000000000007"}', '{"amount":"-8.30…"}'),
        ('{"amount":12.5123}', '{"amount":12.5123}'),
        ('{"card":4111111111111111}', '{"card":[pan]}'),
        ('{"card":"4111 1111 1111 1111"}', '{"card":"[pan]"}'),
        # The first eight digits of a card number may be shown, more may not.
        ('{"amount":411111.1111111111}', '{"amount":411111.11…}'),
        ('{"amount":41111111.11111111}', '{"amount":[pan]}'),
        ("4111111111111111", "[pan]"),
    ],
)
def test_long_fractions_are_cut_and_card_numbers_masked(text: str, shown: str) -> None:
    assert show(text) == shown
    assert show_event(text.encode()) == shown


def test_an_event_that_is_no_text_is_described() -> None:
    assert show_event(b"\xff\xfe").startswith("[2 bytes")
