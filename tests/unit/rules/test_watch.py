from consumer.rules.watch import DeclineWatch, Verdict


def test_a_change_that_declines_alike_passes_after_its_window() -> None:
    watch = DeclineWatch(limit_share=0.1, window=3)
    verdicts = [watch.note(declined_now=True, declined_before=True) for _ in range(3)]
    assert verdicts == [Verdict.WATCHING, Verdict.WATCHING, Verdict.PASSED]


def test_a_change_that_declines_more_trips_before_its_window_is_full() -> None:
    watch = DeclineWatch(limit_share=0.2, window=10)
    verdicts = [watch.note(declined_now=True, declined_before=False) for _ in range(3)]
    assert verdicts == [Verdict.WATCHING, Verdict.WATCHING, Verdict.TRIPPED]


def test_what_the_old_rules_declined_and_the_new_ones_do_not_counts_for_the_change() -> None:
    watch = DeclineWatch(limit_share=0.0, window=4)
    assert watch.note(declined_now=False, declined_before=True) is Verdict.WATCHING
    assert watch.note(declined_now=True, declined_before=False) is Verdict.WATCHING
    assert watch.note(declined_now=True, declined_before=False) is Verdict.TRIPPED
