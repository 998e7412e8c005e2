"""
What stands in front of Random Cut Forest on SageMaker: a container that transforms.

The built-in algorithm takes rows as they are, and the forest was grown on transformed ones.
So its endpoint is a pipeline of two containers: AWS's XGBoost image in script mode, which
runs ``inference.py`` beside a copy of ``consumer.training.scaling``, then the algorithm.
"""

import gzip
import io
import tarfile
from pathlib import Path
from typing import Final

from consumer.training import scaling
from consumer.training.archive import to_json
from consumer.training.scaling import Scaling

_SOURCES: Final = {
    "code/inference.py": Path(__file__).with_name("container") / "inference.py",
    "code/scaling.py": Path(scaling.__file__),
}
ENVIRONMENT: Final = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
}
"""What makes the image run the script of the archive (script mode of its source)."""


def build_front(transformation: Scaling) -> bytes:
    """Pack *transformation* with the script that applies it; equal ones give equal bytes."""
    members = {name: source.read_bytes() for name, source in _SOURCES.items()}
    members["scaling.json"] = to_json(transformation.to_dict())
    target = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()
