"""Since when entity state keeps what: one key beside it, replaced only by who knows it."""

from typing import Any

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import translated

KEY = "fraudstream:warmth"
_SWAP = "fraudstream_warmth_swap_1"
_LIBRARY = f"""#!lua name=fraudstream_warmth_1
redis.register_function('{_SWAP}', function(keys, args)
  local stands = redis.call('GET', keys[1]) or ''
  if stands ~= args[1] then return stands end
  redis.call('SET', keys[1], args[2])
  return args[2]
end)
"""


class RedisWarmth:
    """A WarmthStore on the server of entity state, a cluster or one; it has no lifetime."""

    def __init__(self, client: redis.Redis) -> None:
        self._servers = Servers(client)

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def read(self) -> bytes | None:
        """Return the text; see the port. Raises Unavailable."""
        with translated():
            return self._servers.command(KEY, "GET", KEY) or None

    def swap(self, expected: bytes | None, data: bytes) -> bytes | None:
        """Write *data* if *expected* stands there; see the port. Raises Unavailable."""
        with translated():
            try:
                return self._swap(expected or b"", data)
            except redis.ResponseError as error:
                if "Function not found" not in str(error):
                    raise
            for primary in self._servers.primaries:
                primary.function_load(_LIBRARY, replace=True)
            return self._swap(expected or b"", data)

    def _swap(self, expected: bytes, data: bytes) -> bytes | None:
        stands: Any = self._servers.command(KEY, "FCALL", _SWAP, 1, KEY, expected, data)
        return stands or None
