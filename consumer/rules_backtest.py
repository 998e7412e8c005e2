"""``fraudstream rules backtest``: what other rules would have done with decisions on record."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from consumer.clock import SystemClock
from consumer.decision import Policy
from consumer.errors import Misconfigured, Problem
from consumer.evaluation.batches import problem
from consumer.evaluation.label_source import Labels, read_labels
from consumer.evaluation.places import find_files
from consumer.evaluation.rows import Row, estimate_rows, read_rows
from consumer.evidence import printable
from consumer.features.plan import Plan
from consumer.masking import mask_text
from consumer.model import Bands, LabelValue, Outcome
from consumer.outside import build_rule_source
from consumer.recorded import COLUMNS, read_case
from consumer.replay.progress import build_display
from consumer.rules.backtest import Backtest, Shift, Tally, Truth, run_backtest, to_json
from consumer.rules.compilation import RuleSet, compile_rules
from consumer.rules.facts import Case
from consumer.rules.specification import Mode
from consumer.rules_arguments import LIVE, NONE, with_rules_at
from consumer.search_command import plain_lines
from consumer.settings import Settings

_BANDS: Final = ("fraud_review", "fraud_decline", "anomaly_review")

_Limits = tuple[float, float, float]


def _limits(row: Row) -> _Limits:
    fraud_review, fraud_decline, anomaly_review = (float(row[name]) for name in _BANDS)
    return fraud_review, fraud_decline, anomaly_review


@dataclass(slots=True)
class Source:
    """
    Decisions on record as cases, each transaction once.

    *read* are the features that the rules read. Counts what was passed over: ``repeated``
    rows, and rows without a value for one of *read* (``lacking``, feature → rows).
    """

    files: Sequence[Path]
    plan: Plan
    settings: Settings
    labels: Labels | None
    read: frozenset[str]
    repeated: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    _policies: dict[_Limits, Policy] = field(default_factory=dict)

    def cases(self) -> Iterator[tuple[Case, LabelValue | None, Policy]]:
        """Yield every case with its label and the bands that held. Raises Misconfigured."""
        features = [f"f_{name}" for name in self.plan.names]
        extra = [f"x_{name}" for name in self.settings.events.extra_fields]
        wanted = {*COLUMNS, *_BANDS, *features, *extra, "fraud"}
        seen: set[int] = set()
        for path in self.files:
            for place, row in read_rows(path, wanted):
                identity = hash(row.get("transaction_id"))
                if identity in seen:
                    self.repeated += 1
                elif self._has_all(row):
                    seen.add(identity)
                    yield self._read(path, place, row)

    def rows(self) -> int:
        """About how many decisions there are, to tell how far it is."""
        return sum(estimate_rows(path) for path in self.files)

    def _has_all(self, row: Row) -> bool:
        missing = [name for name in self.read if row.get(f"f_{name}") is None]
        self.lacking.update(missing)
        return not missing

    def _read(self, path: Path, place: str, row: Row) -> tuple[Case, LabelValue | None, Policy]:
        try:
            case = read_case(row, self.plan.names, self.plan.exponent)
            limits = _limits(row)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            expected = "a row of decisions, as Firehose or a replay writes them"
            raise problem(path, place, mask_text(str(error)), expected) from error
        return case, self._label(row), self._policy(limits)

    def _label(self, row: Row) -> LabelValue | None:
        fraud = row.get("fraud")
        if self.labels is not None:
            known = self.labels.of(str(row["transaction_id"]))
            fraud = fraud if known is None else known
        if fraud is None:
            return None
        return LabelValue.FRAUD if fraud else LabelValue.LEGITIMATE

    def _policy(self, limits: _Limits) -> Policy:
        """What decided beside rules: the bands of that time, the rest as the settings say."""
        if limits not in self._policies:
            self._policies[limits] = Policy(Bands(*limits), self.settings.decision)
        return self._policies[limits]


def backtest_rules(
    settings: Settings, plan: Plan, arguments: argparse.Namespace
) -> tuple[Backtest, Source]:
    """
    Try the rules that *arguments* name on the decisions that they name.

    Raises Misconfigured, with every mistake of rules, files and rows, and Unavailable.
    """
    files = find_files("--source", arguments.source)
    labels = read_labels(find_files("--labels", arguments.labels)) if arguments.labels else None
    live = None
    if arguments.against != NONE:
        place = None if arguments.against == LIVE else arguments.against
        live = build_rule_source(with_rules_at(settings, place), plan).compile()
    new = _new_rules(settings, plan, arguments, live)
    read = frozenset(
        name
        for rules in (new, live)
        if rules is not None
        for each in rules.rules
        if each.rule.mode is not Mode.OFF
        for name in each.features
    )
    source = Source(files, plan, settings, labels, read)
    backtest = Backtest(new, live, samples=arguments.samples, seed=arguments.seed)
    with build_display(SystemClock(), "backtest", source.rows(), 0) as display:
        run_backtest(backtest, source.cases(), display.show)
    if not backtest.transactions.total:
        raise Misconfigured([_nothing(source)])
    return backtest, source


def _new_rules(
    settings: Settings, plan: Plan, arguments: argparse.Namespace, live: RuleSet | None
) -> RuleSet:
    source = build_rule_source(with_rules_at(settings, arguments.new), plan)
    specification, lists = source.read()
    rules, mode = list(specification.rules), specification.mode
    if arguments.as_live:
        mode = Mode.LIVE
        rules = [replace(each, mode=_as_live(each.mode)) for each in rules]
    if arguments.add and live is not None:
        own = {each.rule_id: each for each in rules}
        former = [own.pop(each.rule_id, each) for each in live.specification.rules]
        rules, mode = [*former, *own.values()], live.specification.mode
    return compile_rules(specification.with_rules(rules, mode), lists, source.catalogue)


def _as_live(mode: Mode) -> Mode:
    return Mode.LIVE if mode is Mode.SHADOW else mode


def _nothing(source: Source) -> Problem:
    found = f"no decision in {len(source.files):,} files"
    if source.lacking:
        name, rows = source.lacking.most_common(1)[0]
        found = f"{rows:,} decisions without f_{name}, which rules read"
    expected = "decisions with the features that rules read; replay history with this list for them"
    return Problem("arguments", "--source", found, expected)


def as_json(backtest: Backtest, source: Source) -> dict[str, Any]:
    """Everything that was found, with what was passed over."""
    return {
        **to_json(backtest, source.plan.exponent),
        "repeated_rows": source.repeated,
        "rows_without": dict(source.lacking.most_common()),
    }


def render(backtest: Backtest, source: Source) -> Iterator[str]:
    """The backtest for a person."""
    units = 10**source.plan.exponent
    currency = source.settings.events.base_currency
    yield f"new      {_name(backtest.new)}"
    if backtest.live is not None:
        yield f"against  {_name(backtest.live)}"
    counted = backtest.transactions.count
    yield (
        f"on       {backtest.transactions.total:,} decisions: {counted[Truth.FRAUD]:,} fraud, "
        f"{counted[Truth.LEGITIMATE]:,} legitimate, {counted[Truth.UNLABELLED]:,} unlabelled"
    )
    yield from _passed_over(source)
    yield ""
    yield f"Matches, as transactions and {currency} (* new or changed; alone: decided by no other)"
    yield from plain_lines(list(_rule_rows(backtest, units)))
    yield ""
    yield from plain_lines(list(_outcome_rows(backtest, units)))
    if backtest.drawn:
        yield ""
        yield f"{len(backtest.drawn)} transactions, drawn by --seed {backtest.seed}"
        yield from plain_lines(list(_sample_rows(backtest, units)))


def _name(rules: RuleSet) -> str:
    return f"{rules.specification.source}, hash {rules.specification.hash[:12]}…"


def _passed_over(source: Source) -> Iterator[str]:
    if source.repeated:
        yield f"         {source.repeated:,} repeated rows passed over"
    for name, rows in source.lacking.most_common():
        yield f"         {rows:,} rows without f_{name}, which rules read, passed over"


_HEADER: Final = ("fraud", "legitimate", "unlabelled", "precision")


def _rule_rows(backtest: Backtest, units: int) -> Iterator[tuple[str, ...]]:
    yield ("", "rule", *_HEADER, "alone fraud", "alone legitimate", "")
    for name, each in backtest.rules.items():
        notes = ["in shadow"] if each.shadow else []
        if backtest.errors[name]:
            notes.append(f"no value {backtest.errors[name]:,} times")
        yield (
            "*" if name in backtest.changed else "",
            name,
            *_cells(each.matches, units),
            _cell(each.alone, Truth.FRAUD, units),
            _cell(each.alone, Truth.LEGITIMATE, units),
            ", ".join(notes),
        )


def _outcome_rows(backtest: Backtest, units: int) -> Iterator[tuple[str, ...]]:
    yield ("outcome", *_HEADER)
    for outcome, tally in backtest.outcomes.items():
        # Frauds among what is approved are what was missed: no precision.
        told = _counts if outcome is Outcome.APPROVE else _cells
        yield (str(outcome), *told(tally, units))
        if backtest.live is not None:
            yield ("  against", *told(backtest.former[outcome], units))
    if backtest.live is not None:
        for shift in Shift:
            yield (str(shift), *_cells(backtest.shifts[shift], units))


def _cells(tally: Tally, units: int) -> tuple[str, ...]:
    *counts, _ = _counts(tally, units)
    return (*counts, "" if tally.precision is None else f"{tally.precision:.1%}")


def _counts(tally: Tally, units: int) -> tuple[str, ...]:
    """The cells of *tally* without its precision."""
    return (*(_cell(tally, truth, units) for truth in Truth), "")


def _cell(tally: Tally, truth: Truth, units: int) -> str:
    if not tally.count[truth]:
        return "0"
    return f"{tally.count[truth]:,} ({tally.minor[truth] / units:,.0f})"


def _sample_rows(backtest: Backtest, units: int) -> Iterator[tuple[str, ...]]:
    yield ("why", "transaction", "time", "amount", "turned out", "fraud score", "now", "rules")
    for each in backtest.drawn:
        transaction, score = each.case.transaction, each.case.scores.fraud
        before = "" if each.before is None else f"{each.before.outcome} → "
        yield (
            str(each.why),
            printable(transaction.transaction_id),
            f"{transaction.event_time:%Y-%m-%d %H:%M:%S}",
            f"{transaction.base_amount_minor / units:,.2f}",
            str(each.truth),
            "" if score is None else f"{score:.3f}",
            f"{before}{each.after.outcome}",
            ", ".join(each.rules),
        )
