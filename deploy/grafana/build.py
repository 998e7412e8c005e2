"""
Writes both dashboards: ``python deploy/grafana/build.py``; a test holds the JSON in step.

Operations asks Prometheus, Fraud the time series of decisions in VictoriaMetrics, which speaks
Prometheus's query language.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphDrawStyle, StackingConfig, StackingMode
from grafana_foundation_sdk.models.dashboard import DashboardLink, DashboardLinkType, DataSourceRef

FOLDER = Path(__file__).parent / "dashboards"
PROMETHEUS, SERIES = "fraudstream-prometheus", "fraudstream-series"
_HIGH, _LOW = 8, 4


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time, *queries* with their legends; ``stacked`` as areas or as bars."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    span: int = 12
    stacked: bool = False
    bars: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """One number."""

    title: str
    query: str
    unit: str = "short"
    span: int = 4


@dataclass(frozen=True, slots=True)
class Ranking:
    """The largest of now, as bars."""

    title: str
    query: str
    legend: str
    unit: str = "short"
    span: int = 12


Panel = Graph | Number | Ranking


def _quantile(share: float, name: str, *labels: str) -> str:
    """The *share* quantile of the histogram *name* in five minutes."""
    by = ", ".join(("le", *labels))
    return f"histogram_quantile({share}, sum by ({by}) (rate({name}_bucket[5m])))"


OPERATIONS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Now",
        (
            Number("Decisions a second", "sum(rate(fraudstream_decisions_total[1m]))"),
            Number("Furthest behind", "max(fraudstream_millis_behind_latest)", "ms"),
            Number("Oldest unsaved record", "max(fraudstream_checkpoint_age_seconds)", "s"),
            Number(
                "p99, delivery to decision",
                _quantile(0.99, "fraudstream_receive_to_decision_seconds"),
                "s",
            ),
            Number(
                "Without a score",
                "(sum(rate(fraudstream_degraded_total[5m])) or vector(0)) "
                "/ sum(rate(fraudstream_decisions_total[5m]))",
                "percentunit",
            ),
            Number(
                "Restarts in 15 minutes",
                "sum(increase(fraudstream_restarts_total[15m])) or vector(0)",
            ),
        ),
    ),
    (
        "Flow",
        (
            Graph(
                "Decisions by outcome",
                [("sum by (outcome) (rate(fraudstream_decisions_total[1m]))", "{{outcome}}")],
                stacked=True,
            ),
            Graph(
                "Records by what became of them",
                [("sum by (outcome) (rate(fraudstream_records_total[1m]))", "{{outcome}}")],
            ),
            Graph(
                "Behind the tip, by shard",
                [("max by (shard) (fraudstream_millis_behind_latest)", "{{shard}}")],
                "ms",
            ),
            Graph(
                "Oldest unsaved record, by shard",
                [("max by (shard) (fraudstream_checkpoint_age_seconds)", "{{shard}}")],
                "s",
            ),
        ),
    ),
    (
        "Time",
        (
            Graph(
                "Delivery to decision",
                [
                    (
                        _quantile(share, "fraudstream_receive_to_decision_seconds"),
                        name,
                    )
                    for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
                ],
                "s",
            ),
            Graph(
                "A chunk in each stage, p99",
                [
                    (
                        _quantile(0.99, "fraudstream_stage_seconds", "stage"),
                        "{{stage}}",
                    )
                ],
                "s",
                description="observe and decide are Redis, score the endpoints",
            ),
            Graph(
                "A request to an endpoint",
                [
                    (
                        _quantile(share, "fraudstream_endpoint_seconds", "endpoint"),
                        f"{{{{endpoint}}}} {name}",
                    )
                    for share, name in ((0.5, "p50"), (0.99, "p99"))
                ],
                "s",
            ),
            Graph(
                "Breakers (0 closed, 1 half-open, 2 open)",
                [("max by (endpoint) (fraudstream_breaker_state)", "{{endpoint}}")],
            ),
        ),
    ),
    (
        "What went wrong",
        (
            Graph(
                "Without a score, by cause",
                [("sum by (cause) (rate(fraudstream_degraded_total[5m]))", "{{cause}}")],
            ),
            Graph(
                "Dead letters, by error",
                [("sum by (error) (increase(fraudstream_dead_letters_total[5m]))", "{{error}}")],
                bars=True,
            ),
            Graph(
                "Failed calls, by service",
                [
                    (
                        "sum by (dependency) (rate(fraudstream_dependency_errors_total[5m]))",
                        "{{dependency}}",
                    )
                ],
            ),
            Graph(
                "Restarts, by cause",
                [("sum by (cause) (increase(fraudstream_restarts_total[5m]))", "{{cause}}")],
                bars=True,
            ),
        ),
    ),
    (
        "Rules and models",
        (
            Graph(
                "Rules that hit",
                [
                    (
                        'sum by (rule) (rate(fraudstream_rule_hits_total{mode="live"}[5m]))',
                        "{{rule}}",
                    )
                ],
            ),
            Graph(
                "Workers by version of the rules",
                [("sum by (rules) (fraudstream_rules_info)", "{{rules}}")],
                stacked=True,
            ),
            Ranking(
                "Furthest from training (PSI)",
                "topk(10, max by (feature) (fraudstream_psi))",
                "{{feature}}",
            ),
            Graph("Thresholds in force", [("max by (name) (fraudstream_threshold)", "{{name}}")]),
        ),
    ),
    (
        "REST",
        (
            Graph(
                "Answers, by status",
                [("sum by (status) (rate(fraudstream_api_answers_total[1m]))", "{{status}}")],
                stacked=True,
            ),
            Graph(
                "Seconds of an answer, p99",
                [
                    (
                        _quantile(0.99, "fraudstream_api_seconds", "route"),
                        "{{route}}",
                    )
                ],
                "s",
            ),
            Graph(
                "Refused early, by reason",
                [("sum by (reason) (rate(fraudstream_api_shed_total[5m]))", "{{reason}}")],
            ),
            Graph(
                "Not let in, by flaw",
                [("sum by (flaw) (increase(fraudstream_api_not_let_in_total[5m]))", "{{flaw}}")],
                bars=True,
            ),
        ),
    ),
)


_AMOUNT = "fraudstream_decisions_amount"
_DECLINED = f'{_AMOUNT}{{outcome="decline"}}'
_FLAGGED = f'{_AMOUNT}{{outcome!="approve"}}'


def _money(outcome: str) -> str:
    return f'sum(sum_over_time({_AMOUNT}{{outcome="{outcome}"}}[$__range]))'


def _spread(share: float, score: str) -> str:
    each = f"quantile_over_time({share}, fraudstream_decisions_{score}[$__interval])"
    return f"quantile({share}, {each})"


FRAUD: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "In the time shown",
        (
            Number("Transactions", f"sum(count_over_time({_AMOUNT}[$__range]))"),
            Number("Amount", f"sum(sum_over_time({_AMOUNT}[$__range]))", "currencyEUR"),
            Number("Declined", _money("decline"), "currencyEUR"),
            Number("For review", _money("review"), "currencyEUR"),
            Number(
                "Share declined",
                f"sum(count_over_time({_DECLINED}[$__range])) "
                f"/ sum(count_over_time({_AMOUNT}[$__range]))",
                "percentunit",
            ),
            Number(
                "Share without a score",
                f'(sum(count_over_time({_AMOUNT}{{degraded="true"}}[$__range])) or 0) '
                f"/ sum(count_over_time({_AMOUNT}[$__range]))",
                "percentunit",
            ),
        ),
    ),
    (
        "Over time",
        (
            Graph(
                "Transactions by outcome",
                [
                    (
                        f"sum by (outcome) (count_over_time({_AMOUNT}[$__interval]))",
                        "{{outcome}}",
                    )
                ],
                stacked=True,
                bars=True,
            ),
            Graph(
                "Amount declined or held for review",
                [
                    (
                        f"sum by (outcome) (sum_over_time({_FLAGGED}[$__interval]))",
                        "{{outcome}}",
                    )
                ],
                "currencyEUR",
                stacked=True,
                bars=True,
            ),
            Graph(
                "Fraud probability",
                [
                    (
                        _spread(share, "fraud"),
                        name,
                    )
                    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
                description="Its distribution, by quantiles of the series",
            ),
            Graph(
                "Anomaly score",
                [
                    (
                        _spread(share, "anomaly"),
                        name,
                    )
                    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
            ),
        ),
    ),
    (
        "Where",
        (
            Ranking(
                "Amount declined, by country",
                f"topk(10, sum by (country) (sum_over_time({_DECLINED}[$__range])))",
                "{{country}}",
                "currencyEUR",
            ),
            Ranking(
                "Amount declined, by category",
                f"topk(10, sum by (category) (sum_over_time({_DECLINED}[$__range])))",
                "{{category}}",
                "currencyEUR",
            ),
            Ranking(
                "First reasons",
                f'topk(10, sum by (reason) (count_over_time({_AMOUNT}{{reason!=""}}[$__range])))',
                "{{reason}}",
            ),
            Graph(
                "Share declined, by country",
                [
                    (
                        (
                            f"sum by (country) (count_over_time({_DECLINED}[$__interval])) "
                            f"/ sum by (country) (count_over_time({_AMOUNT}[$__interval]))"
                        ),
                        "{{country}}",
                    )
                ],
                "percentunit",
            ),
        ),
    ),
)


def _query(number: int, text: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(text).legend_format(legend).ref_id(chr(ord("A") + number))


def _panel(panel: Panel, source: DataSourceRef) -> timeseries.Panel | stat.Panel | bargauge.Panel:
    if isinstance(panel, Number):
        number = stat.Panel().with_target(_query(0, panel.query, "").instant())
        number.title(panel.title).unit(panel.unit).datasource(source)
        return number.span(panel.span).height(_LOW)
    if isinstance(panel, Ranking):
        bars = bargauge.Panel().with_target(_query(0, panel.query, panel.legend).instant())
        bars.title(panel.title).unit(panel.unit).datasource(source)
        return bars.span(panel.span).height(_HIGH)
    graph = timeseries.Panel().title(panel.title).unit(panel.unit).description(panel.description)
    graph.datasource(source).span(panel.span).height(_HIGH).min(0)
    graph.fill_opacity(60 if panel.stacked or panel.bars else 8)
    if panel.bars:
        graph.draw_style(GraphDrawStyle.BARS)
    if panel.stacked:
        graph.stacking(_Stacked())
    for place, (text, legend) in enumerate(panel.queries):
        graph.with_target(_query(place, text, legend))
    return graph


class _Stacked:
    """A builder of what is stacked, as the SDK wants one."""

    def build(self) -> StackingConfig:
        return StackingConfig(mode=StackingMode.NORMAL, group="A")


def build(uid: str, title: str, source: str, rows: Iterable[tuple[str, Iterable[Panel]]]) -> str:
    """Build a dashboard as JSON."""
    reference = DataSourceRef(type_val="prometheus", uid=source)
    board = dashboard.Dashboard(title).uid(uid).tags(["fraudstream"]).refresh("30s")
    board.time("now-1h" if source == PROMETHEUS else "now-24h", "now").timezone("browser")
    board.readonly()
    # Where `fraudstream serve` shows its page, for the link.
    page = (
        dashboard.TextBoxVariable("page").label("live page").default_value("http://127.0.0.1:8080")
    )
    board.with_variable(page)
    for name, panels in rows:
        board.with_row(dashboard.Row(name))
        for panel in panels:
            board.with_panel(_panel(panel, reference))
    board.links([_Link()])
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


class _Link:
    """From a dashboard to the live page, where a transaction is looked at."""

    def build(self) -> DashboardLink:
        return DashboardLink(
            title="Transactions on the live page",
            type_val=DashboardLinkType.LINK,
            url="$page/",
            target_blank=True,
        )


DASHBOARDS = {
    "operations.json": (
        "fraudstream-operations",
        "fraudstream: operations",
        PROMETHEUS,
        OPERATIONS,
    ),
    "fraud.json": ("fraudstream-fraud", "fraudstream: fraud", SERIES, FRAUD),
}


def main() -> None:
    """Write both."""
    for name, parts in DASHBOARDS.items():
        (FOLDER / name).write_text(build(*parts))


if __name__ == "__main__":
    main()
