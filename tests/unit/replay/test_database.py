"""What DuckDB says when it cannot go on, as the rest of a replay understands it."""

from pathlib import Path

import duckdb
import pytest

from consumer.errors import Unavailable
from consumer.replay.database import connect, cursor, sorting


def test_a_disk_too_full_to_sort_on_may_heal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="expected room for what is sorted"), sorting(tmp_path):
        raise duckdb.IOException("Could not write file: No space left on device\nmore")


def test_an_error_of_a_query_stays_one(tmp_path: Path) -> None:
    with (
        connect(tmp_path) as database,
        pytest.raises(duckdb.BinderException),
        cursor(database) as connection,
        sorting(tmp_path),
    ):
        connection.execute("SELECT nothing")


@pytest.mark.parametrize("told", [RuntimeError, duckdb.InterruptException])
def test_an_interrupted_query_is_ctrl_c(tmp_path: Path, told: type[Exception]) -> None:
    with connect(tmp_path) as database, pytest.raises(KeyboardInterrupt), cursor(database):
        raise told("Query interrupted")
