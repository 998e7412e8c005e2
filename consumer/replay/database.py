"""
The DuckDB that sorts and converts: in memory up to a limit, beyond it in files.

It never fetches extensions; those it needs (JSON, Parquet, time zones) are in its wheel.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from consumer.errors import Unavailable

_MEMORY: Final = "200MB"
# With more than one thread a streamed result does not keep the order of its file.
_THREADS: Final = 1
BATCH_ROWS: Final = 8_192


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    """Open a database that spills into the folder *spill*."""
    spill.mkdir(parents=True, exist_ok=True)
    return duckdb.connect(
        config={
            "memory_limit": _MEMORY,
            "threads": _THREADS,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


@contextmanager
def cursor(database: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own to *database*: one result at a time is streamed on each."""
    opened = database.cursor()
    try:
        # Times without an offset must not mean what this machine is set to.
        opened.execute("SET TimeZone = 'UTC'")
        # What was made and waits to be taken counts against our own memory.
        opened.execute("SET streaming_buffer_size = '1MB'")
        yield opened
    except (RuntimeError, duckdb.InterruptException) as error:
        # What DuckDB makes of Ctrl-C, the former while it fetches.
        if "interrupted" not in str(error).lower():
            raise
        raise KeyboardInterrupt from error
    finally:
        opened.close()


@contextmanager
def sorting(folder: Path) -> Iterator[None]:
    """Raise Unavailable with what *folder* lacks where DuckDB could not sort in it."""
    try:
        yield
    except duckdb.Error as error:
        full = "No space left" in str(error) or "max_temp_directory_size" in str(error)
        if not full and not isinstance(error, duckdb.OutOfMemoryException):
            raise
        found = str(error).partition("\n")[0][:200]
        expected = "expected room for what is sorted, about 300 bytes an event (--work)"
        raise Unavailable("disk", f"{folder}: {found}; {expected}") from error


def stream(connection: duckdb.DuckDBPyConnection, query: str) -> Generator[Any]:
    """Yield the record batches of *query* as they are made."""
    # A result of execute() would be made whole first.
    yield from connection.sql(query).to_arrow_reader(BATCH_ROWS)
