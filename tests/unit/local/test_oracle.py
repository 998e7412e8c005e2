"""The oracle is checked by hand, because everything else is checked by the oracle."""

from consumer.local.oracle import Event, Oracle, Question

HOUR, DAY = 3_600, 86_400
START = 1_700_006_400  # a multiple of 43,200 s
QUESTIONS = [
    Question("count_1h", "card_id", "count", HOUR),
    Question("sum_1h", "card_id", "sum", HOUR),
    Question("mean_1h", "card_id", "mean", HOUR),
    Question("max_1d", "card_id", "max", DAY),
    Question("gap", "card_id", "time_since_last"),
]


def an_oracle() -> Oracle:
    return Oracle(QUESTIONS, horizon_s=90_000)


def an_event(name: str, time_s: int, amount_minor: int = 100, *, purchase: bool = True) -> Event:
    return Event(name, time_s, amount_minor, {"card_id": "c"}, purchase)


def test_a_window_ends_at_the_event_and_includes_it() -> None:
    oracle = an_oracle()
    oracle.apply(an_event("a", START, 300))
    values, applied = oracle.observe(an_event("b", START + 40, 100))
    assert values == {"count_1h": 2, "sum_1h": 4.0, "mean_1h": 2.0, "max_1d": 3.0, "gap": 40}
    assert applied == {"card_id": "applied"}


def test_the_far_edge_falls_on_the_grid_and_excludes_it() -> None:
    oracle = an_oracle()
    for name, time in (("a", START), ("b", START + 1)):
        oracle.apply(an_event(name, time))
    assert oracle.read("card_id", "c", START + HOUR - 1)["count_1h"] == 2
    # From START + 1 h on the edge is START itself, a minute later START + 60.
    assert oracle.read("card_id", "c", START + HOUR)["count_1h"] == 1
    assert oracle.read("card_id", "c", START + HOUR + 59)["count_1h"] == 1
    assert oracle.read("card_id", "c", START + HOUR + 60)["count_1h"] == 0


def test_an_id_counts_once_whatever_time_it_comes_with() -> None:
    oracle = an_oracle()
    first, _ = oracle.observe(an_event("a", START))
    again, applied = oracle.observe(an_event("a", START))
    assert (first, applied) == (again, {"card_id": "repeated"})
    assert oracle.observe(an_event("a", START + 5))[0]["count_1h"] == 1


def test_an_id_is_remembered_until_its_fifth_of_the_horizon_is_over() -> None:
    oracle = an_oracle()
    period = 18_000
    time = START // period * period + 7
    oracle.apply(an_event("a", time))
    oracle.apply(an_event("b", time - 7 + period - 1 + 90_000))
    assert oracle.observe(an_event("a", time + 90_000))[1] == {"card_id": "repeated"}
    oracle.apply(an_event("c", time - 7 + period + 90_000))
    assert oracle.observe(an_event("a", time + 90_000))[1] == {"card_id": "applied"}


def test_an_event_beyond_the_horizon_is_dropped_and_reads_at_the_horizon() -> None:
    oracle = an_oracle()
    oracle.apply(an_event("old", START))
    oracle.apply(an_event("new", START + 90_000))
    values, applied = oracle.observe(an_event("late", START - 1))
    assert applied == {"card_id": "late_dropped"}
    assert values["count_1h"] == 1
    assert values["gap"] == 0


def test_a_refund_reads_and_does_not_count() -> None:
    oracle = an_oracle()
    oracle.apply(an_event("a", START))
    values, applied = oracle.observe(an_event("r", START + 9, purchase=False))
    assert applied == {"card_id": "read"}
    assert (values["count_1h"], values["gap"]) == (1, 9)


def test_the_gap_is_capped_by_the_longest_window_also_without_any_event() -> None:
    oracle = an_oracle()
    assert oracle.read("card_id", "c", START)["gap"] == DAY
    assert oracle.observe(an_event("a", START))[0]["gap"] == DAY
    assert oracle.read("card_id", "c", START + DAY + 1)["gap"] == DAY


def test_two_events_of_one_second_are_no_time_apart() -> None:
    oracle = an_oracle()
    oracle.apply(an_event("a", START))
    assert oracle.observe(an_event("b", START))[0]["gap"] == 0


def test_the_busiest_come_first() -> None:
    oracle = an_oracle()
    for number in range(3):
        oracle.apply(Event(f"x{number}", START, 1, {"card_id": "x"}))
    oracle.apply(Event("y", START, 1, {"card_id": "y"}))
    assert oracle.busiest("card_id", 1) == ["x"]
    assert oracle.values_of("card_id") == ["x", "y"]
