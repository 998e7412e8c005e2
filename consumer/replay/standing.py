"""Whether a replay begins or goes on, by the state that an earlier one left."""

from hashlib import sha256
from pathlib import Path

import msgspec

import consumer
from consumer.clock import SystemClock
from consumer.errors import Misconfigured, Problem
from consumer.features.specification import load_plan
from consumer.outside import build_object, build_rule_source
from consumer.replay.arguments import Wishes
from consumer.replay.asked_models import ask_models
from consumer.replay.history import History
from consumer.replay.state import (
    FileState,
    State,
    StatePlace,
    check_identity,
    decode_state,
)
from consumer.settings import Settings

_DIGITS = 16


def open_state(place: str, settings: Settings) -> StatePlace:
    """The state at *place*, a path or ``s3://bucket/key``. Raises Misconfigured."""
    if not place.startswith("s3://"):
        return FileState(Path(place))
    if not place.removeprefix("s3://").partition("/")[2]:
        raise Misconfigured([Problem("arguments", "--state", place, "s3://bucket/key")])
    return build_object(settings, place)


def build_identity(wishes: Wishes, settings: Settings, history: History) -> dict[str, str]:
    """
    What must be the same for a replay to go on: history, target, and what results rest on.

    A live system may change its rules and models meanwhile; what is made on a scratch Redis is of
    one kind. Raises Misconfigured for what cannot be read, and as ``ask_models`` does.
    """
    # In what follows is what results rest on, not where it lies: a path says nothing of a file.
    plan = load_plan(settings.features.path, settings.events.base_currency)
    identity = {
        "package": consumer.__version__,
        "history": history.fingerprint,
        "target": f"{wishes.to}{' on a scratch Redis' if wishes.scratch else ''}",
        "out": "" if wishes.out is None else str(wishes.out.resolve()),
        "selection": _told(wishes),
        "features": plan.hash,
        "events": _digest(settings.events.model_dump_json()),
    }
    if wishes.to == "engine":
        deciding = (settings.scoring, settings.decision, settings.rules)
        identity["decisions"] = _digest("".join(each.model_dump_json() for each in deciding))
        models = ask_models(
            settings, len(plan.names), SystemClock(), needed=not wishes.allow_degraded
        )
        if wishes.scratch:
            rules = build_rule_source(settings, plan).load()
            identity["rules"] = _short(rules.specification.hash)
            identity["lists"] = _short(rules.lists.hash)
            identity["models"] = models
    if wishes.scratch and settings.events.rates is not None:
        identity["rates"] = _digest(_read(settings.events.rates))
    if not wishes.scratch and wishes.to != "stream":
        redis = settings.redis
        urls = (redis.url, redis.features_url, redis.documents_url)
        identity["redis"] = _digest(
            " ".join("" if url is None else url.get_secret_value() for url in urls)
        )
    if wishes.to == "stream":
        identity["stream"] = settings.kcl.stream_name
    return identity


def take_up(place: StatePlace, wishes: Wishes, identity: dict[str, str]) -> State | None:
    """
    The state to go on from; None to begin anew.

    Raises Misconfigured where there is none to resume, where one would be lost, and where it
    belongs to another replay.
    """
    data = None if wishes.restart else place.read()
    if wishes.resume:
        if data is None:
            expected = "the state of an interrupted replay; without --resume it begins anew"
            raise Misconfigured([Problem("arguments", "--resume", f"no {place.name}", expected)])
        state = decode_state(data, place.name)
        check_identity(state, identity, place.name)
        return state
    if data is not None and _is_underway(decode_state(data, place.name)):
        expected = "--resume to go on with it, --restart to begin anew, or another --state"
        found = "the state of an interrupted replay"
        raise Misconfigured([Problem(place.name, "the file", found, expected)])
    return None


def _is_underway(state: State) -> bool:
    """Whether something was done that would have to be done again."""
    return state.ordinal > 0 and not state.finished


def _told(wishes: Wishes) -> str:
    fields = msgspec.to_builtins(wishes.selection)
    given = {name: value for name, value in fields.items() if value is not None}
    return " ".join(f"{name}={value}" for name, value in given.items()) or "everything"


def _read(path: Path) -> str:
    """The text of *path*; whoever needs it says why it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _digest(text: str) -> str:
    return _short(sha256(text.encode()).hexdigest())


def _short(digest: str) -> str:
    return digest[:_DIGITS]
