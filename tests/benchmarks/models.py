"""
Two small real models, trained once on simulated history and kept.

They are kept under the hash of the features they were trained on and of the
settings of the simulation, so that a change of either trains anew.
"""

import hashlib
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import load_plan
from consumer.local.learning import learn
from consumer.local.redis_server import RedisServer
from consumer.local.simulator.history import Folder, write_history
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.settings import Settings
from consumer.training.train import ANOMALY_ARCHIVE, FRAUD_ARCHIVE

# Sixty days, of which thirty fill the windows and ten wait for their labels.
_END = datetime(2026, 6, 1, tzinfo=UTC)
_SCENARIO = Scenario(end_ms=int(_END.timestamp() * 1000), cards=400, merchants=100, transactions=1)
_THRESHOLDS = "thresholds.json"


@dataclass(frozen=True, slots=True)
class Models:
    """Endpoint name → archive, and the settings to decide by, as environment variables."""

    archives: dict[str, Path]
    environment: dict[str, str]


def small_models(cache: Path) -> Models:
    """The models kept below *cache*, trained first where they are not there yet."""
    settings = Settings()
    plan = load_plan(settings.features.path, settings.events.base_currency)
    key = hashlib.sha256(f"{plan.hash} {_SCENARIO!r}".encode()).hexdigest()[:12]
    folder = cache / key
    if not (folder / _THRESHOLDS).exists():
        _train(folder, settings)
    thresholds: dict[str, float] = orjson.loads((folder / _THRESHOLDS).read_bytes())
    return Models(
        {
            settings.scoring.fraud.name: folder / FRAUD_ARCHIVE,
            settings.scoring.anomaly.name: folder / ANOMALY_ARCHIVE,
        },
        {f"FRAUDSTREAM_DECISION__{name.upper()}": repr(v) for name, v in thresholds.items()},
    )


def _train(folder: Path, settings: Settings) -> None:
    """Train into *folder*; the thresholds are written last and say that all of it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = load_plan(settings.features.path, settings.events.base_currency)
    history = Folder(folder / "history")
    write_history(Traffic(_SCENARIO).history(), history)
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(modules=False))
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        stack.enter_context(closing(client))
        store = RedisFeatureStore(client, plan, id_horizon_s=settings.features.id_horizon_s)
        store.prepare()
        learned = learn(history, settings, plan, store, folder, lambda _done, _note: None)
    thresholds = orjson.dumps(asdict(learned.trained.thresholds))
    (folder / _THRESHOLDS).write_bytes(thresholds)
