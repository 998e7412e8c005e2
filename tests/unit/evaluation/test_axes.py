import pytest

from consumer.evaluation.axes import log_axis
from consumer.evaluation.drawing import canvas


@pytest.mark.parametrize(("low", "high"), [(300.0, 450.0), (2_500.0, 9_000.0), (0.1, 3_000.0)])
def test_a_log_scale_has_short_numbers_at_it_however_narrow(low: float, high: float) -> None:
    with canvas() as (figure, (axes,)):
        axes.plot((low, high), (0, 1))
        log_axis(axes)
        figure.draw_without_rendering()
        shown = [
            label.get_text()
            for where, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if low <= where <= high
        ]
        minor = [label.get_text() for label in axes.get_xticklabels(minor=True)]
    assert len(shown) >= 1
    assert not any("^" in text or "$" in text for text in shown)
    assert not any(minor)
