"""
Ids that occur again in what a replay wrote: the first one stands, as documents have it.

On a live system a document is what knows an id again. A scratch replay keeps none, so that
what it wrote is searched when the history has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import numpy.typing as npt

CONTENT_DIGITS = 32
"""So many hex digits of a transaction's digest tell whether two say the same."""

_MEMORY = "150MB"
_QUERY = """
SELECT r.ordinal, r.content = f.content AS equal
FROM read_parquet($rows) r JOIN (
    SELECT transaction_id, min(ordinal) AS ordinal, arg_min(content, ordinal) AS content
    FROM read_parquet($rows) GROUP BY transaction_id HAVING count(*) > 1
) f ON r.transaction_id = f.transaction_id AND r.ordinal > f.ordinal
ORDER BY r.ordinal
"""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Ordinals of rows whose id had one before, ascending, and whether they say the same."""

    ordinals: npt.NDArray[np.int64]
    equal: npt.NDArray[np.bool_]

    @classmethod
    def find(cls, rows: Sequence[str], folder: Path) -> Self:
        """
        Search the part files *rows*: ``ordinal``, ``transaction_id`` and ``content``, a digest.

        DuckDB spills into *folder*, so that memory grows with the repeats alone.
        """
        if not rows:
            return cls(np.empty(0, np.int64), np.empty(0, np.bool_))
        connection: Any = duckdb.connect()
        try:
            connection.execute(f"SET memory_limit='{_MEMORY}'")
            connection.execute("SET threads=2")
            connection.execute("SET temp_directory=$1", [str(folder / "spill")])
            found = connection.sql(_QUERY, params={"rows": list(rows)}).to_arrow_table()
        finally:
            connection.close()
        columns = [found.column(at).to_numpy() for at in range(2)]
        return cls(columns[0], columns[1].astype(np.bool_))

    def among(
        self, ordinals: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Of rows with these (ascending) ordinals: which repeat an id, and which contradict it."""
        first, end = np.searchsorted(self.ordinals, (ordinals[0], ordinals[-1] + 1))
        here, equal = self.ordinals[first:end], self.equal[first:end]
        return np.isin(ordinals, here), np.isin(ordinals, here[~equal])
