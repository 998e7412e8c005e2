"""
What a preflight says of the REST service: who may ask, and the settings that do not fit together.

Pure functions, as those of ``checkup``. The list of access holds secrets: no finding repeats one.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from consumer.api.access_list import AccessKey, AccessList, Scope
from consumer.checkup import Finding, Level
from consumer.errors import Problem
from consumer.settings import Api, Settings

ACCESS, SERVICE = "rest access", "rest service"
OTHER_FILES = 256
"""Files that a service has open beside connections of clients."""

_SOON = timedelta(days=14)
_PAGE = "docs/rest-access.md"


def no_list(api: Api) -> Finding:
    """No list of access is named: well for a daemon alone."""
    remedy = f"api.auth.access_file or api.auth.access_secret: see {_PAGE}"
    if api.auth.kind == "gateway":
        text = "api.auth.kind is gateway, and no list says whom it may name: nobody is let in"
        return Finding(ACCESS, Level.FAIL, text, remedy)
    text = "no list of access: fraudstream serve lets in nobody but sessions of its page"
    return Finding(ACCESS, Level.OK, text)


def list_problems(problems: Iterable[Problem]) -> list[Finding]:
    """Each of *problems* of a list as a failure, with its file and line."""
    return [
        Finding(
            ACCESS,
            Level.FAIL,
            f"{each.source}: {each.key}: {each.found}",
            f"expected {each.expected}; see {_PAGE}",
        )
        for each in problems
    ]


def judge_access(access: AccessList, api: Api, place: str, now: datetime) -> list[Finding]:
    """Whom the list at *place* lets in at *now*."""
    if api.auth.kind == "gateway":
        return [_judge_callers(access, place)]
    keys = list(access.keys.values())
    valid = [key for key in keys if key.expires is None or key.expires > now]
    if not valid:
        text = f"{place}: {'every key has expired' if keys else 'no key'}: nobody is let in"
        return [Finding(ACCESS, Level.FAIL, text, f"add a key under keys; see {_PAGE}")]
    found = [*_endings(keys, place, now)]
    if access.callers:
        text = f"{place}: callers are not looked at while api.auth.kind is sigv4"
        remedy = "api.auth.kind: gateway behind API Gateway, or take callers out"
        found.append(Finding(ACCESS, Level.WARN, text, remedy))
    if found:
        return found
    return [Finding(ACCESS, Level.OK, f"{place}: {_count(len(valid), 'key')} of {_who(valid)}")]


def _judge_callers(access: AccessList, place: str) -> Finding:
    if not access.callers:
        text = f"{place}: no caller, and api.auth.kind is gateway: nobody is let in"
        remedy = f"add callers and gateway_secrets; see {_PAGE}"
        return Finding(ACCESS, Level.FAIL, text, remedy)
    names = ", ".join(sorted({each.name for each in access.callers}))
    text = f"{place}: {_count(len(access.callers), 'caller')} ({names}) behind API Gateway"
    return Finding(ACCESS, Level.OK, text)


def _endings(keys: Sequence[AccessKey], place: str, now: datetime) -> Iterator[Finding]:
    """Keys that have expired or will soon, by the name of who has them."""
    for key in keys:
        if key.expires is None or key.expires > now + _SOON:
            continue
        word = "expired" if key.expires <= now else "expires"
        text = f"{place}: a key of {key.name} {word} at {key.expires:%Y-%m-%dT%H:%M:%SZ}"
        remedy = "add a new key of that name, then take this one out"
        yield Finding(ACCESS, Level.WARN, text, remedy)


def _who(keys: Iterable[AccessKey]) -> str:
    """Each name with its scopes."""
    scopes: dict[str, set[Scope]] = {}
    for key in keys:
        scopes.setdefault(key.name, set()).update(key.scopes)
    return ", ".join(f"{name} ({' '.join(sorted(each))})" for name, each in sorted(scopes.items()))


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def judge_service(settings: Settings, *, installed: bool, files: int | None) -> list[Finding]:
    """
    The settings of the service.

    *installed*: its extra is there; *files*: how many a process may open at most, None without end.
    """
    api = settings.api
    found = [*_conflicts(settings), *_misplaced(api)]
    if not installed:
        text = "the server is not installed: fraudstream serve cannot start"
        found.append(Finding(SERVICE, Level.WARN, text, "pip install 'fraudstream[api]'"))
    if files is not None and files < api.connection_limit + OTHER_FILES:
        text = f"{files} open files do not suffice for api.connection_limit {api.connection_limit}"
        remedy = f"LimitNOFILE= or ulimit -Hn of {api.connection_limit + OTHER_FILES}, or fewer"
        found.append(Finding(SERVICE, Level.WARN, text, remedy))
    if found:
        return found
    text = f"{api.host}:{api.port}, at most {api.in_flight_limit} transactions under way"
    return [Finding(SERVICE, Level.OK, text)]


def _conflicts(settings: Settings) -> Iterator[Finding]:
    """Limits that cannot be met together."""
    api, deadline_ms = settings.api, settings.scoring.deadline_ms
    if api.timeout_ms <= deadline_ms:
        text = f"api.timeout_ms {api.timeout_ms} ends before scoring.deadline_ms {deadline_ms}"
        remedy = "a longer api.timeout_ms: a sick endpoint would be a 504 instead of degraded"
        yield Finding(SERVICE, Level.WARN, text, remedy)
    if api.batch_limit > api.in_flight_limit:
        text = f"api.batch_limit {api.batch_limit} is above api.in_flight_limit"
        remedy = "a higher api.in_flight_limit: such a batch is let in only where nothing else is"
        yield Finding(SERVICE, Level.WARN, text, remedy)


def _misplaced(api: Api) -> Iterator[Finding]:
    """Addresses that are none, or that tell more than they should."""
    if api.metrics == "open" and not _is_loopback(api.host):
        text = f"everybody who reaches {api.host} may read /metrics"
        remedy = "api.metrics: loopback, unless its network is yours alone"
        yield Finding(SERVICE, Level.WARN, text, remedy)
    for url in api.daemon_urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            text = f"api.daemon_urls: {url} is no address of a daemon"
            yield Finding(SERVICE, Level.WARN, text, "http://host:port of its supervisor.port")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
