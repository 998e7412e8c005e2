"""The pages of settings and metrics in step with what they tell of."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from consumer import metrics_page, settings_page
from consumer.metrics import AccessMetrics, ApiMetrics, Metrics, SupervisorMetrics
from consumer.settings_schema import all_keys

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        ("settings.md", settings_page.render_page()),
        ("metrics.md", metrics_page.render_page()),
    ],
)
def test_a_page_is_what_the_code_says(name: str, rendered: str) -> None:
    """After a change: python -m consumer.settings_page > docs/settings.md, so for metrics."""
    assert (DOCS / name).read_text("utf-8") == rendered


def test_every_key_of_the_settings_has_a_row_with_what_it_may_be() -> None:
    rows = [line.split(" | ") for line in settings_page.render_page().splitlines()]
    cells = {row[0].strip("| `"): row[1:] for row in rows if row[0].startswith("| `")}
    assert list(cells) == list(all_keys())
    assert [key for key, (_, allowed, meaning) in cells.items() if not allowed or not meaning] == []


def test_every_metric_is_registered_explained_and_nothing_else_is_exported() -> None:
    meanings = metrics_page.meanings()
    assert set(meanings) == set(metrics_page.registered())
    assert [name for name, meaning in meanings.items() if not meaning.endswith(".")] == []


def test_every_metric_of_a_worker_and_the_supervisor_is_in_what_they_expose() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    SupervisorMetrics(registry, "1.2.3")
    AccessMetrics(registry)
    ApiMetrics(registry)
    exposed = generate_latest(registry).decode()
    own = {
        "fraudstream_checkpoint_age_seconds"
    }  # made when it is asked for, see test_status_server
    for name, entry in metrics_page.registered().items():
        shown = f"{name}_info" if entry.kind == "info" else name
        assert name in own or f"# HELP {shown} " in exposed


def test_the_labels_of_a_metric_are_named() -> None:
    found = metrics_page.registered()
    assert found["fraudstream_dependency_errors_total"].labels == ("dependency", "cause")
    assert found["fraudstream_checkpoint_age_seconds"].labels == ("shard",)
    assert found["fraudstream_conflicts_total"].labels == ()
