"""
What a start looks at before the daemon runs: Redis, AWS, the rules, both endpoints.

A composition root beside ``app.py``. All that is to be corrected is told at once.
"""

import os
from contextlib import ExitStack
from functools import partial

from consumer.adapters.resources import check_buckets, check_delivery_stream, check_stream
from consumer.clock import SystemClock
from consumer.decode import DecodeRules
from consumer.errors import Problem
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.health import Probe
from consumer.java import find_java
from consumer.logs import get_logger
from consumer.outside import (
    Stores,
    build_accepted_rules,
    build_archives,
    build_bands_watch,
    build_client,
    build_endpoints,
    build_feature_hash_watch,
    build_rule_source,
    build_stores,
)
from consumer.preflight import (
    Findings,
    RecentProbe,
    answering,
    check_endpoints,
    probe_endpoint,
)
from consumer.rules.start import begin
from consumer.settings import Settings


def check(settings: Settings, stack: ExitStack) -> dict[str, Probe]:
    """
    Look at Redis, the stream, the buckets and both endpoints; return their probes.

    *stack* closes what was opened. Raises Misconfigured and Unavailable.
    """
    clock = SystemClock()
    plan = load_plan(settings.features.path, settings.events.base_currency)
    findings = Findings()
    stores: list[Stores] = []
    with findings.looking():
        find_java(settings.kcl.java, os.environ)
    with findings.looking():
        DecodeRules.of(settings.events)
    with findings.looking("a server at redis.url (FRAUDSTREAM_REDIS__URL)"):
        stores.append(build_stores(settings, plan, stack))
        stores[0].features.verify()
    for look in (_look_at_stream, _look_at_bucket, _look_at_firehose):
        with findings.looking("AWS at aws.region or aws.endpoint_url, with these credentials"):
            findings.add(look(settings))
    with findings.looking():
        if stores:
            look_at_rules(settings, plan, stack)
        else:
            build_rule_source(settings, plan).load()
    scoring = settings.scoring
    fraud, anomaly = build_endpoints(settings, clock)
    named = [
        ("scoring.fraud.name", scoring.fraud.name, fraud),
        ("scoring.anomaly.name", scoring.anomaly.name, anomaly),
    ]
    findings.add(check_endpoints(named, len(plan.names), clock))
    hashes = build_feature_hash_watch(settings, plan, None)
    hashes.look()
    findings.add(hashes.problems())
    with findings.looking():
        build_archives(settings, plan).check()
        # Afterwards, since an archive that cannot be used is told once.
        build_bands_watch(settings, plan, None)
    findings.refuse()
    return {
        "redis": answering(stores[0].ping),
        **{
            f"endpoint {name}": RecentProbe(
                partial(probe_endpoint, endpoint, len(plan.names), clock), clock
            )
            for _, name, endpoint in named
        },
    }


def look_at_rules(settings: Settings, plan: Plan, stack: ExitStack) -> None:
    """
    See that workers have rules to start with, and say loudly where these are the last good copy.

    Raises Misconfigured and Unavailable where there are none.
    """
    begun = begin(build_rule_source(settings, plan), build_accepted_rules(settings, stack))
    if begun.copy is not None:
        get_logger(__name__).error(
            "rules or lists cannot be used: starting with the last good copy",
            copy=begun.copy.place,
            problems=[str(problem) for problem in begun.problems],
        )


def _look_at_stream(settings: Settings) -> list[Problem]:
    return check_stream(build_client("kinesis", settings), settings)


def _look_at_bucket(settings: Settings) -> list[Problem]:
    return check_buckets(build_client("s3", settings), settings)


def _look_at_firehose(settings: Settings) -> list[Problem]:
    if not settings.firehose.enabled:
        return []
    return check_delivery_stream(build_client("firehose", settings), settings)
