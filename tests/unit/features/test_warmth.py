"""From when on a feature is full: in event time, over changes of plan, workers and losses."""

from math import inf

import pytest

from consumer.errors import Misconfigured
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.features.warmth import (
    Needs,
    Record,
    Report,
    Requirement,
    decode_record,
    encode_record,
    format_until,
    full_from,
    needs_of,
    requirements_of,
    take_note,
)

MINUTE, HOUR, DAY = 60, 3_600, 86_400
START = 1_780_000_000
HORIZON = 90_000
BOTH = "card: {key: card_id}, device: {key: device_id}"


def a_plan(*features: str, entities: str = "card: {key: card_id}") -> Plan:
    lines = "".join(f"  - {{{each}}}\n" for each in features)
    return parse_plan(f"version: 1\nentities: {{{entities}}}\nfeatures:\n{lines}", source="warmth")


def count(window: str, more: str = "") -> str:
    return f"name: count_{window}, entity: card, aggregation: count, windows: [{window}]{more}"


def over(aggregation: str, window: str, entity: str = "card") -> str:
    name = f"{entity}_{aggregation.split('(', maxsplit=1)[0]}_{window}"
    return f"name: {name}, entity: {entity}, aggregation: {aggregation}, windows: [{window}]"


class History:
    """What the workers of one Redis report, one after the other."""

    def __init__(self) -> None:
        self.record: Record | None = None

    def report(
        self,
        plan: Plan,
        event_s: int,
        ahead_s: int = 0,
        *,
        joins: bool = False,
        in_force: bool = True,
    ) -> dict[str, float]:
        """A worker of *plan* is about to apply an event; return when its features are full."""
        needs = needs_of(plan)
        wanted = requirements_of(needs)
        report = Report(wanted, event_s, event_s + ahead_s, HORIZON, joins=joins, in_force=in_force)
        self.record = take_note(self.record, report)
        return full_from(needs, self.record)


@pytest.fixture
def history() -> History:
    return History()


def needs(*features: str) -> Needs:
    return needs_of(a_plan(*features))


def test_a_window_is_full_once_it_lies_wholly_after_the_first_event(history: History) -> None:
    plan = a_plan(count("1m"), count("1h"), count("30d"))
    assert history.report(plan, START) == {
        "count_1m": START + MINUTE + 1,
        "count_1h": START + HOUR + MINUTE,
        "count_30d": START + 30 * DAY + DAY // 2,
    }


def test_a_delay_and_a_grid_of_its_own_count_too(history: History) -> None:
    delayed = "name: rate, entity: card, aggregation: fraud_rate, windows: [1d], delay: 7d"
    plan = a_plan(delayed, count("1d", ", grid: 1m"))
    full = history.report(plan, START)
    assert full["rate"] == START + 8 * DAY + 24 * MINUTE
    assert full["count_1d"] == START + DAY + MINUTE


def test_ages_are_full_when_state_is_as_old_as_the_cap(history: History) -> None:
    plan = a_plan(
        count("7d"),
        "name: age, entity: card, aggregation: first_seen",
        "name: gap, entity: card, aggregation: time_since_last",
    )
    full = history.report(plan, START)
    assert full["age"] == full["gap"] == START + 7 * DAY


def test_what_needs_no_past_is_full_at_once() -> None:
    found = needs(
        "name: amount, field: amount",
        "name: hour, calendar: hour_of_day",
        "name: km, entity: card, aggregation: distance",
        "name: kmh, entity: card, aggregation: speed",
        "name: fast, ratio: [kmh, km]",
        count("1h"),
    )
    assert found.keys() == {"count_1h"}


def test_what_is_derived_is_full_with_the_last_of_what_it_is_made_of(history: History) -> None:
    plan = a_plan(
        "name: amount, field: amount",
        count("1h"),
        count("1d"),
        "name: share, ratio: [count_1h, count_1d]",
        "name: change, difference: [share, amount]",
    )
    full = history.report(plan, START)
    assert full["share"] == full["change"] == full["count_1d"]


def test_nothing_is_known_before_the_first_event() -> None:
    assert full_from(needs(count("1h")), None) == {"count_1h": inf}
    assert format_until(inf) == "unknown until the next event"
    assert format_until(1_780_272_000) == "2026-06-01T00:00:00Z"


def test_a_longer_window_that_is_added_warms_and_the_others_stay_full(history: History) -> None:
    history.report(a_plan(count("1h")), START)
    later = START + 10 * DAY
    history.report(a_plan(count("1h")), later)
    full = history.report(a_plan(count("1h"), over("distinct(merchant_id)", "1d")), later + 60)
    assert full["count_1h"] < later
    assert full["card_distinct_1d"] == later + DAY + 24 * MINUTE


def test_a_longer_window_has_the_past_that_a_shorter_one_kept(history: History) -> None:
    former = a_plan(count("1h"), over("sum", "1d", "device"), entities=BOTH)
    history.report(former, START)
    later = START + 20 * DAY
    history.report(former, later)
    longer = a_plan(count("6h"), over("sum", "1d", "device"), entities=BOTH)
    full = history.report(longer, later)
    assert full["count_6h"] == later + (6 - 1) * HOUR + 4 * MINUTE - MINUTE


def test_a_past_of_states_that_are_forgotten_earlier_is_not_given(history: History) -> None:
    history.report(a_plan(count("7d")), START)
    later = START + 20 * DAY
    history.report(a_plan(count("7d")), later)
    full = history.report(a_plan(count("30d")), later)
    assert full["count_30d"] == later + 30 * DAY + DAY // 2


def test_it_counts_from_when_they_lived_long_enough(history: History) -> None:
    history.report(a_plan(count("1h")), START)
    history.report(a_plan(count("1h")), START + DAY)
    history.report(a_plan(count("1h"), over("max", "1d")), START + DAY)
    history.report(a_plan(count("1h"), over("max", "1d")), START + DAY + MINUTE)
    full = history.report(a_plan(count("6h"), over("max", "1d")), START + DAY + MINUTE)
    assert full["count_6h"] == START + DAY + 6 * HOUR + 4 * MINUTE


def test_a_past_that_was_not_there_is_not_given(history: History) -> None:
    history.report(a_plan(count("7d")), START)
    full = history.report(a_plan(count("30d")), START + HOUR)
    assert full["count_30d"] == START + 30 * DAY + DAY // 2


def test_a_shorter_window_on_the_same_grid_is_full_as_the_longer_one_was(history: History) -> None:
    history.report(a_plan(count("30d", ", grid: 1m")), START)
    full = history.report(a_plan(count("1h"), count("30d", ", grid: 1m")), START + 40 * DAY)
    assert max(full.values()) <= START + 31 * DAY


def test_a_finer_grid_warms_because_state_was_merged(history: History) -> None:
    history.report(a_plan(count("1d")), START)
    later = START + 10 * DAY
    history.report(a_plan(count("1d")), later)
    full = history.report(a_plan(count("1d", ", grid: 1m")), later)
    assert full["count_1d"] == later + DAY + MINUTE


@pytest.mark.parametrize("aggregation", ["std", "min", "max"])
def test_a_new_track_warms_over_rows_that_are_old(history: History, aggregation: str) -> None:
    history.report(a_plan(count("1d")), START)
    later = START + 10 * DAY
    history.report(a_plan(count("1d")), later)
    full = history.report(a_plan(count("1d"), over(aggregation, "1d")), later)
    assert full["count_1d"] < later
    assert full[f"card_{aggregation}_1d"] == later + DAY + 24 * MINUTE


def test_a_track_that_is_kept_serves_every_window_that_rows_reach(history: History) -> None:
    history.report(a_plan(count("30d"), over("std", "1h")), START)
    full = history.report(a_plan(count("30d"), over("std", "30d")), START + 60 * DAY)
    assert full["card_std_30d"] <= START + 31 * DAY


def test_edges_on_a_grid_serve_others_and_not_the_reverse(history: History) -> None:
    frauds = over("fraud_count", "1d")
    history.report(a_plan(frauds), START)
    later = START + 10 * DAY
    assert history.report(a_plan(frauds, count("1d")), later)["count_1d"] < later
    other = History()
    other.report(a_plan(count("1d")), START)
    other.report(a_plan(count("1d")), later)
    assert other.report(a_plan(frauds, count("1d")), later)["card_fraud_count_1d"] > later


def test_an_entity_that_is_new_or_keyed_by_another_field_warms(history: History) -> None:
    history.report(a_plan(count("1h")), START)
    later = START + DAY
    history.report(a_plan(count("1h")), later)
    both = a_plan(count("1h"), over("count", "1h", "device"), entities=BOTH)
    assert history.report(both, later)["device_count_1h"] == later + HOUR + MINUTE
    rekeyed = a_plan(count("1h"), entities="card: {key: customer_id}")
    assert history.report(rekeyed, later)["count_1h"] == later + HOUR + MINUTE


def test_what_was_dropped_warms_again_when_it_comes_back(history: History) -> None:
    both, one = a_plan(count("1h"), count("1d")), a_plan(count("1h"))
    history.report(both, START)
    history.report(one, START + 10 * DAY)
    back = START + 20 * DAY
    history.report(one, back)
    full = history.report(both, back)
    assert full["count_1h"] < back
    assert full["count_1d"] == back + DAY + 24 * MINUTE


def test_events_before_a_change_reach_as_far_as_the_furthest_worker(history: History) -> None:
    former, newer = a_plan(over("max", "1h")), a_plan(over("min", "1h"))
    history.report(former, START, ahead_s=2 * HOUR)
    full = history.report(newer, START + HOUR)
    assert full["card_min_1h"] == START + 2 * HOUR + HOUR + MINUTE


def test_a_worker_of_the_former_plan_keeps_what_is_new_young(history: History) -> None:
    former, newer = a_plan(over("max", "1h")), a_plan(over("max", "1h"), over("min", "1h"))
    history.report(former, START)
    history.report(newer, START + DAY, ahead_s=300)
    history.report(former, START + DAY + 200, ahead_s=300)
    full = history.report(newer, START + DAY + 300)
    assert full["card_min_1h"] == START + DAY + 500 + HOUR + MINUTE
    assert full["card_max_1h"] == START + HOUR + MINUTE


def test_two_workers_of_one_plan_begin_at_the_earlier_of_their_events(history: History) -> None:
    plan = a_plan(count("1h"))
    history.report(plan, START, joins=True)
    full = history.report(plan, START - 40, joins=True)
    assert full["count_1h"] == START - 40 + HOUR + MINUTE
    assert history.report(plan, START + 40, joins=True) == full


def test_a_late_event_after_the_first_claims_no_past(history: History) -> None:
    plan = a_plan(count("1h"))
    full = history.report(plan, START, joins=True)
    assert history.report(plan, START - HOUR) == full


def test_history_after_live_traffic_claims_no_past(history: History) -> None:
    plan = a_plan(count("1h"))
    full = history.report(plan, START, joins=True)
    assert history.report(plan, START - 60 * DAY, joins=True) == full


def test_after_history_everything_is_full_when_live_traffic_begins(history: History) -> None:
    plan = a_plan(count("30d"), "name: age, entity: card, aggregation: first_seen")
    history.report(plan, START - 60 * DAY, joins=True)
    history.report(plan, START - 60)
    assert max(history.report(plan, START, joins=True).values()) < START


def test_a_record_that_was_lost_with_the_state_begins_anew(history: History) -> None:
    plan = a_plan(count("1h"))
    history.report(plan, START)
    history.record = None
    assert history.report(plan, START + DAY)["count_1h"] == START + DAY + HOUR + MINUTE


def test_a_new_requirement_begins_when_the_former_layout_is_written_no_more(
    history: History,
) -> None:
    former, newer = a_plan(count("1h")), a_plan(count("1h"), over("min", "1h"))
    history.report(former, START)
    upgrading = history.report(newer, START + DAY, in_force=False)
    assert upgrading == {"count_1h": START + HOUR + MINUTE, "card_min_1h": inf}
    full = history.report(newer, START + 2 * DAY)
    assert full["card_min_1h"] == START + DAY + HOUR + MINUTE


def test_state_without_a_record_that_is_still_upgraded_is_not_full(history: History) -> None:
    newer = a_plan(count("1h"))
    assert history.report(newer, START, in_force=False) == {"count_1h": inf}
    assert history.report(newer, START + 60)["count_1h"] == START + HOUR + MINUTE


def test_a_record_is_read_as_it_was_written(history: History) -> None:
    history.report(a_plan(count("1h"), over("std", "30d")), START)
    history.report(a_plan(count("1h"), over("std", "30d"), over("min", "1d")), START + DAY)
    assert history.record is not None
    data = encode_record(history.record)
    assert decode_record(data) == history.record
    assert encode_record(decode_record(data)) == data


@pytest.mark.parametrize(
    "data", [b"nonsense", b"[]", b'{"version":2}', b'{"version":1}', b'{"version":1,"kept":3}']
)
def test_what_is_no_record_is_refused_with_what_to_do(data: bytes) -> None:
    with pytest.raises(Misconfigured, match=r"fraudstream:warmth.*delete the key"):
        decode_record(data)


def test_requirements_of_other_entities_imply_nothing() -> None:
    card = Requirement("card", "card_id", "rows", 100, 1)
    assert card.implies(Requirement("card", "card_id", "rows", 100, 5))
    assert not card.implies(Requirement("card", "card_id", "rows", 101, 5))
    assert not card.implies(Requirement("device", "card_id", "rows", 100, 5))
