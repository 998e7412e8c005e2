"""What becomes of an error that DuckDB tells only in words."""

from pathlib import Path

import duckdb
import pytest

from consumer.errors import Misconfigured
from consumer.replay.tables import Table, reading

TABLE = Table("s3://lake/rows.csv", Path("/spool/rows.csv"), "csv")


def test_ctrl_c_that_meets_the_reading_of_a_schema_stays_ctrl_c() -> None:
    told = "Invalid Input Error: reading the schema of '__file' failed: KeyboardInterrupt: "
    with pytest.raises(KeyboardInterrupt), reading(TABLE):
        raise duckdb.InvalidInputException(told)


def test_what_cannot_be_read_is_told_with_the_address_of_its_file() -> None:
    with pytest.raises(Misconfigured, match=r"s3://lake/rows\.csv.*it is cut off"), reading(TABLE):
        raise duckdb.InvalidInputException("/spool/rows.csv is cut off")
