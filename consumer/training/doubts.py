"""Features to look at before anybody trusts a model: those that say nothing, or too much."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from sklearn.metrics import roc_auc_score

from consumer.training.examples import Part

_LEAK_AUC: Final = 0.99
_LOOKED_AT: Final = 100_000


def find_doubts(part: Part, names: tuple[str, ...]) -> Iterator[str]:
    """
    Yield a warning for each feature of *part* that is constant, or tells fraud all alone.

    A feature alone reaches an AUC above .99 hardly ever honestly: it mostly was made with
    the label, or after it. Looks at all frauds and 100,000 legitimate rows.
    """
    frauds, legitimate = np.flatnonzero(part.fraud), np.flatnonzero(~part.fraud)
    step = max(len(legitimate) // _LOOKED_AT, 1)
    chosen = np.concatenate([frauds, legitimate[::step]])
    fraud = part.fraud[chosen]
    for at, name in enumerate(names):
        values = part.rows[:, at]
        if values.min() == values.max():
            yield f"{name}: constant, {values[0]:g} in every training row; it tells nothing"
            continue
        auc = float(roc_auc_score(fraud, values[chosen]))
        if max(auc, 1 - auc) > _LEAK_AUC:
            yield (
                f"{name}: tells fraud all alone (AUC {max(auc, 1 - auc):.4f}): does it know the "
                "label? A value that is made with it, or after it, is not there when a "
                "transaction is decided"
            )
