"""
Training rows out of the engine's own feature store.

History runs through the very store that serves live traffic, in order of event
time: vectors in training equal those in production because the same code made
them, and the store is warm for the live part afterwards. Labels arrive days
later, so a row may only be used when its label had time to arrive.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.model import Applied, Label, LabelValue, Transaction, TransactionId
from consumer.ports import FeatureStore, Observe

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Vectors:
    """
    What the store answered: one row a transaction that it had not seen before.

    ``times_s``, shape (n,), are event times in seconds since the epoch;
    ``rows``, shape (n, d), the vectors in the order of ``names``.
    """

    names: tuple[str, ...]
    feature_hash: str
    transaction_ids: list[TransactionId]
    times_s: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows in order of time with what each turned out to be; ``fraud`` has shape (n,)."""

    names: tuple[str, ...]
    feature_hash: str
    times_s: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]


def collect(
    transactions: Iterable[Transaction],
    store: FeatureStore,
    names: Sequence[str],
    feature_hash: str,
    on_progress: Callable[[int], None],
) -> Vectors:
    """
    Run *transactions*, in order of event time, through *store*.

    *names* and *feature_hash* are those of the store's plan; ``on_progress``
    hears how many transactions are done. A transaction that every entity already
    knew makes no row: its vector was read after later ones. Raises Unavailable
    when the store does, with part of the history applied; running all of it
    again is then only right on an empty store.
    """
    ids: list[TransactionId] = []
    times: list[int] = []
    parts: list[npt.NDArray[np.float32]] = [np.empty((0, len(names)), np.float32)]
    done = 0
    remaining = iter(transactions)
    while chunk := list(islice(remaining, _CHUNK)):
        requests = [Observe(each, int(each.event_time.timestamp())) for each in chunk]
        observed = [
            (request, observation.values)
            for request, observation in zip(requests, store.observe(requests), strict=True)
            if set(observation.applied) != {Applied.REPEATED}
        ]
        ids += [request.transaction.transaction_id for request, _ in observed]
        times += [request.time_s for request, _ in observed]
        if observed:
            parts.append(np.array([values for _, values in observed], np.float32))
        done += len(chunk)
        on_progress(done)
    return Vectors(
        tuple(names), feature_hash, ids, np.array(times, np.int64), np.concatenate(parts)
    )


def label(
    vectors: Vectors, labels: Iterable[Label], *, cutoff: datetime, delay_s: int, warmup_s: int
) -> Dataset:
    """
    Join *vectors* with the labels known at *cutoff*; a row without one is legitimate.

    The newest label of a transaction up to *cutoff* counts, none from after it.
    Left out are the last *delay_s* before the cut-off, whose frauds are still
    unknown and would be learnt as legitimate, and the first *warmup_s* of the
    history, while the windows fill.
    """
    newest: dict[TransactionId, Label] = {}
    for each in labels:
        if each.label_time <= cutoff:
            known = newest.get(each.transaction_id)
            if known is None or known.label_time < each.label_time:
                newest[each.transaction_id] = each
    frauds = {name for name, each in newest.items() if each.label is LabelValue.FRAUD}
    fraud = np.fromiter((name in frauds for name in vectors.transaction_ids), np.bool_)
    first_s = vectors.times_s.min(initial=int(cutoff.timestamp())) + warmup_s
    last_s = int(cutoff.timestamp()) - delay_s
    used = (vectors.times_s >= first_s) & (vectors.times_s <= last_s)
    # Entities of one second may have been applied in any order; time alone orders the rows.
    order = np.flatnonzero(used)[np.argsort(vectors.times_s[used], kind="stable")]
    return Dataset(
        vectors.names,
        vectors.feature_hash,
        vectors.times_s[order],
        vectors.rows[order],
        fraud[order],
    )
