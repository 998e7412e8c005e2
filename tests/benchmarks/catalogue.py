"""
Every figure that is reported: its unit, and the bound it is held against.

A benchmark measures several figures in the same run, because CPU a transaction
means something only beside the throughput it was measured at. A figure without
a bound is there to explain the others.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What is reported under one name. *target* is the bound; *at_least* says on which side."""

    unit: str
    target: float | None = None
    at_least: bool = False

    def met(self, value: float) -> bool | None:
        """Whether *value* keeps the bound; None where there is none."""
        if self.target is None:
            return None
        return value >= self.target if self.at_least else value <= self.target


FIGURES: dict[str, dict[str, Figure]] = {
    "throughput": {
        "worker_throughput": Figure("transactions/s", 5_000, at_least=True),
        "worker_cpu": Figure("µs/transaction", 100),
        "redis_cpu": Figure("µs/transaction", 160),
        "others_cpu": Figure("µs/transaction"),
        "throughput_degraded": Figure("transactions", 0),
        "worker_rss": Figure("MB", 150),
        "redis_functions": Figure("calls/transaction"),
        "redis_commands": Figure("commands/transaction"),
        "document_bytes": Figure("bytes"),
    },
    "stages": {
        "stage_envelope": Figure("µs/transaction"),
        "stage_decode": Figure("µs/transaction"),
        "stage_observe": Figure("µs/transaction"),
        "stage_score": Figure("µs/transaction"),
        "stage_decide": Figure("µs/transaction"),
        "stage_publish": Figure("µs/transaction"),
        "stage_beside": Figure("µs/transaction"),
        "stage_sum": Figure("µs/transaction", 100),
    },
    "latency": {
        "latency_p50": Figure("ms", 15),
        "latency_p99": Figure("ms", 50),
        "latency_p999": Figure("ms", 100),
        "latency_degraded": Figure("transactions", 0),
        "arrival_latency_p50": Figure("ms"),
        "arrival_latency_p99": Figure("ms"),
        "arrival_latency_p999": Figure("ms"),
        "driver_wake_p99": Figure("ms"),
    },
    "state": {
        "card_10_bytes": Figure("bytes", 400),
        "card_60_bytes": Figure("bytes", 1_200),
        "card_1000_bytes": Figure("bytes", 4_000),
        "card_call": Figure("µs/call", 100),
        "merchant_100k_bytes": Figure("bytes", 8_192),
        "merchant_100k_aside_bytes": Figure("bytes"),
        "merchant_100k_call": Figure("µs/call", 100),
    },
    "start": {
        "process_start": Figure("s", 1),
    },
    "round_trips": {
        "redis_round_trips": Figure("round trips/chunk", 2),
        "redis_beside": Figure("reads/5 min of events"),
    },
    "replay": {
        "replay_features": Figure("transactions/s", 15_000, at_least=True),
        "replay_features_cpu": Figure("µs/transaction"),
        "replay_features_rss": Figure("MB", 500),
        "replay_scores": Figure("transactions/s", 4_000, at_least=True),
        "replay_scores_cpu": Figure("µs/transaction"),
        "replay_scores_rss": Figure("MB", 500),
        "replay_degraded": Figure("transactions", 0),
    },
    "rest": {
        "rest_throughput": Figure("predictions/s", 1_000, at_least=True),
        "rest_cpu": Figure("µs/prediction"),
        "rest_p50": Figure("ms"),
        "rest_p99": Figure("ms", 60),
        "rest_p999": Figure("ms"),
        "rest_degraded": Figure("transactions", 0),
    },
    "lambda_shape": {
        "lambda_throughput": Figure("transactions/s"),
        "lambda_cpu": Figure("µs/transaction"),
        "lambda_ratio": Figure("times as many"),
    },
}
"""Benchmark → figure → what it is, in the order they are run and shown."""
