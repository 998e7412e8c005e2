"""
The last good set of rules in Redis: one hash, changed by server-side functions.

The fields are ``version``, ``content`` (empty where there is no set), ``by_hand``, the version
if a person accepted it, and ``tripped``, the versions of sets that tripped, newest first. What
a worker found good must not replace it while another one finds that it trips, so both are
decided where they meet.
"""

from typing import Any

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import translated

KEY = "fraudstream:rules"

_LIBRARY = """#!lua name=fraudstream_rules_2
local MOST = 20

local function put(key, version, content)
  redis.call('HSET', key, 'version', version, 'content', content)
  if redis.call('HGET', key, 'by_hand') ~= version then redis.call('HDEL', key, 'by_hand') end
end

local function others(key, version)
  local kept = {}
  for known in string.gmatch(redis.call('HGET', key, 'tripped') or '', '%S+') do
    if known ~= version then kept[#kept + 1] = known end
  end
  return kept
end

local function has_tripped(key, version)
  local known = ' ' .. (redis.call('HGET', key, 'tripped') or '') .. ' '
  return string.find(known, ' ' .. version .. ' ', 1, true) ~= nil
end

local function keep(keys, args)
  if has_tripped(keys[1], args[1]) then return 0 end
  put(keys[1], args[1], args[2])
  return 1
end

local function accept(keys, args)
  redis.call('HSET', keys[1], 'tripped', table.concat(others(keys[1], args[1]), ' '))
  redis.call('HSET', keys[1], 'by_hand', args[1])
  put(keys[1], args[1], args[2])
  return 1
end

local function trip(keys, args)
  -- A worker may tell of its trip only after the person has answered it.
  if redis.call('HGET', keys[1], 'by_hand') == args[1] then return 0 end
  local kept = others(keys[1], args[1])
  table.insert(kept, 1, args[1])
  redis.call('HSET', keys[1], 'tripped', table.concat(kept, ' ', 1, math.min(#kept, MOST)))
  local version = redis.call('HGET', keys[1], 'version')
  if not version or version == '' or version == args[1] then
    if has_tripped(keys[1], args[2]) then
      put(keys[1], '', '')
    else
      put(keys[1], args[2], args[3])
    end
  end
  return 1
end

redis.register_function('fraudstream_rules_keep_2', keep)
redis.register_function('fraudstream_rules_accept_2', accept)
redis.register_function('fraudstream_rules_trip_2', trip)
"""


class RedisAcceptedRules:
    """The last good set on the server of documents."""

    def __init__(self, client: redis.Redis) -> None:
        self._servers = Servers(client)

    def read(self) -> bytes | None:
        """Return the content of the set, None where there is none. Raises Unavailable."""
        return self._field("content")

    def version(self) -> str | None:
        """Return the version of the set, None where there is none. Raises Unavailable."""
        version = self._field("version")
        return None if version is None else version.decode()

    def keep(self, version: str, content: bytes) -> bool:
        """Replace the set, unless *version* tripped; whether it was. Raises Unavailable."""
        return bool(self._call("fraudstream_rules_keep_2", version, content))

    def accept(self, version: str, content: bytes) -> None:
        """Replace the set and forget that *version* tripped. Raises Unavailable."""
        self._call("fraudstream_rules_accept_2", version, content)

    def trip(self, version: str, former: str, content: bytes) -> None:
        """Remember that *version* tripped; see the port. Raises Unavailable."""
        self._call("fraudstream_rules_trip_2", version, former, content)

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def _field(self, name: str) -> bytes | None:
        with translated():
            found: bytes | None = self._servers.command(KEY, "HGET", KEY, name)
        return found or None

    def _call(self, function: str, *arguments: str | bytes) -> Any:
        """Call *function*; a server that has lost it is given it anew."""
        words = ("FCALL", function, 1, KEY, *arguments)
        with translated():
            try:
                return self._servers.command(KEY, *words)
            except redis.ResponseError as error:
                if "Function not found" not in str(error):
                    raise
            for primary in self._servers.primaries:
                primary.function_load(_LIBRARY, replace=True)
            return self._servers.command(KEY, *words)
