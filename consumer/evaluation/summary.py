"""The report in a terminal: notes, key figures, rules and challengers."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from consumer.evaluation.figures import Figures
from consumer.evaluation.rule_figures import RuleFigures
from consumer.evaluation.wording import (
    ABSENT,
    key_figures,
    show_count,
    show_figure,
    show_moment,
    show_money,
    show_name,
    show_share,
)


def print_summary(figures: Figures, console: Console) -> None:
    """Print what stands first in the page, then rules and challengers as tables."""
    told = figures.input
    period = f"{show_moment(told.first_time)} to {show_moment(told.last_time)} UTC"
    console.print(f"{told.transactions:,} decisions, {period}", style="bold", highlight=False)
    console.print(
        f"{told.frauds:,} frauds ({show_money(told.fraud_money)} {figures.currency}), "
        f"{told.legitimate - told.assumed_legitimate:,} legitimate, "
        f"{told.unlabelled + told.assumed_legitimate:,} without a label",
        highlight=False,
    )
    for note in figures.notes:
        console.print(f"! {note}", style="yellow", markup=False, highlight=False)
    console.print()
    lines = Table(show_header=False, box=None, padding=(0, 1), pad_edge=False)
    lines.add_column(justify="right", style="bold")
    lines.add_column()
    for tile in key_figures(figures):
        lines.add_row(tile.value, tile.name)
    console.print(lines, highlight=False)
    _print_rules(console, "rules", figures.rules)
    _print_rules(console, "shadow rules", figures.shadow_rules)
    for duel in figures.challengers:
        rows = [
            (
                show_name(name),
                show_figure(each.champion, name),
                show_figure(each.challenger, name),
                show_figure(each.difference, name, signed=True),
                f"{show_figure(each.low, name, signed=True)} to "
                f"{show_figure(each.high, name, signed=True)}"
                if each.low is not None
                else ABSENT,
            )
            for name, each in duel.figures.items()
        ]
        heads = ("figure", "champion", "challenger", "difference", "95 % interval")
        _print_table(console, f"challenger {duel.name}, {duel.pairs:,} pairs", heads, rows)


def _print_rules(console: Console, title: str, rules: Iterable[RuleFigures]) -> None:
    rows = [
        (
            rule.name,
            show_count(rule.all.flagged),
            show_count(rule.all.frauds),
            show_share(rule.all.precision),
            show_share(rule.all.recall),
            show_count(rule.added.flagged),
            show_count(rule.added.frauds),
        )
        for rule in rules
    ]
    heads = ("rule", "hits", "frauds", "precision", "recall", "hits\nadded", "frauds\nadded")
    _print_table(console, title, heads, rows)


def _print_table(
    console: Console, title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    if not rows:
        return
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold"
    )
    for number, head in enumerate(heads):
        # On a narrow terminal names are broken, never figures.
        table.add_column(
            head, justify="right" if number else "left", no_wrap=bool(number), overflow="fold"
        )
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False, highlight=False)
