"""What Redis counts about itself: commands, calls and how long they took."""

from dataclasses import dataclass

import redis


@dataclass(frozen=True, slots=True)
class Counters:
    """
    Counters of a server at one moment; the difference of two says what happened between.

    ``functions`` are calls of functions, ``commands`` all commands, those inside
    functions included, ``reads`` the times that the server read from a connection.
    """

    functions: int
    commands: int
    reads: int

    @classmethod
    def read(cls, client: redis.Redis) -> "Counters":
        """Read them, in two commands."""
        calls = client.info("commandstats").get("cmdstat_fcall", {"calls": 0})
        stats = client.info("stats")
        return cls(
            functions=int(calls["calls"]),
            commands=int(stats["total_commands_processed"]),
            reads=int(stats["total_reads_processed"]),
        )


def call_us(client: redis.Redis) -> tuple[float, int]:
    """Microseconds of a function call since CONFIG RESETSTAT, and how many there were."""
    statistics = client.info("commandstats")["cmdstat_fcall"]
    return float(statistics["usec_per_call"]), int(statistics["calls"])
