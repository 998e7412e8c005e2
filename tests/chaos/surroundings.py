"""The environment of a worker under test: the lab's addresses and shortened limits."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.lab import ROOT, Lab

# Short limits, so that what is waited out costs seconds; a loaded machine must not degrade
# what a case wants scored, and nothing is checkpointed so seldom that no fault meets it.
_SHORTENED = {
    "SCORING__DEADLINE_MS": "20000",
    "SCORING__CONNECT_TIMEOUT_MS": "5000",
    "WORKER__CHUNK_SIZE": "20",
    "WORKER__CHECKPOINT_INTERVAL_S": "0.05",
    "REDIS__OUTAGE_LIMIT_S": "20",
    "REDIS__TIMEOUT_S": "2",
}


def build_environment(lab: Lab, faults: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """
    Every variable of a worker whose plan of faults is in the folder *faults*.

    *variables* are settings without ``FRAUDSTREAM_`` and win over the shortened limits.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FRAUDSTREAM_", "PROMETHEUS_"))
    }
    return {
        **inherited,
        **lab.stack.environment(),
        "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": lab.endpoints.url,
        "CHAOS_AWS_URL": lab.gateway.url,
        "CHAOS_FOLDER": str(faults),
        "PYTHONPATH": str(ROOT),
        **{f"FRAUDSTREAM_{name}": value for name, value in (_SHORTENED | dict(variables)).items()},
    }
