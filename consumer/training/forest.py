"""
A random cut forest behind the scaling of its inputs.

The forest is that of krcf; what its inputs are is told in ``scaling``.
"""

from dataclasses import dataclass

import krcf
import numpy as np
import numpy.typing as npt

from consumer.training.scaling import Scaling, fit

TREES = 100
TREE_SIZE = 256


@dataclass(frozen=True, slots=True)
class Forest:
    """
    Trees, the scaling in front of them, and the parameters they were grown with.

    The score of a row is the mean over the trees of the height at which a cut
    would separate it, normalised by the logarithm of the tree's size: ≥ 0,
    about 0.5 for what is usual, and growing for the unusual, to about 5.
    It is no probability, and scores of two forests do not compare.
    """

    trees: krcf.RandomCutForest
    scaling: Scaling
    parameters: dict[str, int]

    @property
    def dimensions(self) -> int:
        """The number of features of a row, of which the trees may see fewer."""
        return self.scaling.width

    def score(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """
        Score *rows*, shape (n, d), as shape (n,). Does not change the forest.

        About 100 µs a row on one core with the GIL held, so more threads do not help.
        """
        inputs = self.scaling.apply(rows)
        return np.fromiter((self.trees.score(row) for row in inputs), np.float64, len(inputs))


def grow(
    rows: npt.NDArray[np.floating],
    *,
    seed: int,
    trees: int = TREES,
    tree_size: int = TREE_SIZE,
    scaling: Scaling | None = None,
) -> Forest:
    """
    Grow a forest from *rows*, shape (n, d): the same rows and seed give the same forest.

    At most ``trees * tree_size`` rows are used, drawn without replacement: as
    many as the built-in algorithm samples for its trees. About 150 µs a row. Without a
    *scaling* every feature is brought to mean 0 and standard deviation 1.
    """
    front = fit(rows) if scaling is None else scaling
    chosen = np.random.default_rng(seed).permutation(len(rows))[: trees * tree_size]
    parameters = {
        "dimensions": len(front.columns),
        "num_trees": trees,
        "sample_size": tree_size,
        "random_seed": seed,
    }
    forest = krcf.RandomCutForest(
        {
            "dimensions": len(front.columns),
            "shingle_size": 1,
            "num_trees": trees,
            "sample_size": tree_size,
            "random_seed": seed,
            "parallel_execution_enabled": False,
        }
    )
    for row in front.apply(rows[chosen]):
        forest.update(row)
    return Forest(forest, front, parameters)
