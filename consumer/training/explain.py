"""
SHAP values of the fraud model, line by line on standard input and output.

Run by the worker as ``python -m consumer.training.explain model.tar.gz``. A line
in is a JSON array of vectors; a line out holds, for each of them, the columns
with the largest contributions as pairs of column and contribution, largest first.
A contribution is in log-odds: positive speaks for fraud. XGBoost computes them
exactly (Lundberg et al., Consistent Individualized Feature Attribution for Tree
Ensembles, 2018). Ends with its standard input, so with the worker.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import orjson
import xgboost

from consumer.errors import Misconfigured
from consumer.training.artefacts import FraudModel, load_fraud

TOP: Final = 5
_NICENESS: Final = 10


def explain(model: FraudModel, rows: list[list[float]]) -> list[list[tuple[int, float]]]:
    """Return the *TOP* largest contributions, in size, of each of *rows*."""
    matrix = xgboost.DMatrix(np.array(rows, np.float32), nthread=1)
    # The last column is the model's mean, which explains nothing.
    contributions = model.booster.predict(matrix, pred_contribs=True)[:, :-1]
    order = np.argsort(-np.abs(contributions), axis=1)[:, :TOP]
    return [
        [(int(column), float(values[column])) for column in columns]
        for columns, values in zip(order, contributions, strict=True)
    ]


def serve(model: FraudModel, source: BinaryIO, target: BinaryIO) -> None:
    """Answer every line of *source* on *target* until it ends."""
    for line in source:
        answer = explain(model, orjson.loads(line))
        target.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
        target.flush()


def main(arguments: list[str]) -> int:
    """Serve the archive that is the one argument; 2 when it cannot be loaded."""
    # Decisions come first: this process takes what they leave of the machine.
    os.nice(_NICENESS)
    try:
        model = load_fraud(Path(arguments[0]))
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return 2
    serve(model, sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
