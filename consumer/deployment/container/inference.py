"""
Transforms rows for a random cut forest, inside AWS's XGBoost image in script mode.

Runs there alone, on Python 3.10 with numpy and beside ``scaling.py``, a copy of
``consumer.training.scaling``: CSV rows of feature vectors come in, CSV rows of the forest's
inputs go to the next container of the pipeline.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from consumer.training.scaling import Scaling
else:
    from scaling import Scaling

Rows = Any


def model_fn(model_dir: str) -> Scaling:
    """Load the scaling from the unpacked archive. Raises ValueError for what is none."""
    text = Path(model_dir, "scaling.json").read_text(encoding="utf-8")
    return Scaling.from_dict(json.loads(text))


def input_fn(data: "bytes | str", content_type: str) -> Rows:
    """Read CSV rows. Raises ValueError for anything else."""
    if content_type.partition(";")[0].strip().lower() != "text/csv":
        message = f"content type {content_type}, expected text/csv"
        raise ValueError(message)
    text = data.decode() if isinstance(data, (bytes, bytearray)) else data
    lines = text.strip().split("\n")
    # Vectors are stored, trained on and scored in single precision.
    return np.array([[float(each) for each in line.split(",")] for line in lines], np.float32)


def predict_fn(rows: Rows, scaling: Scaling) -> Rows:
    """Transform *rows*, shape (n, width). Raises ValueError for another width."""
    if rows.shape[1] != scaling.width:
        message = f"{rows.shape[1]} features, expected {scaling.width}"
        raise ValueError(message)
    return scaling.apply(rows)


def output_fn(inputs: Rows, _accept: str) -> "tuple[bytes, str]":
    """Write CSV, whatever the caller of the pipeline wants of its last container."""
    lines = (",".join(row) for row in inputs.astype(str).tolist())
    return "\n".join(lines).encode(), "text/csv"
