"""
One Redis address as the primaries behind it: a single server, or those of a cluster.

redis-py's own cluster client sends a command whose reply was lost again, whatever its
retries are set to, and asks the server for the keys of every function call. Here a
command goes to the primary of its slot, all primaries are written to before the first
is read, and only what a server refused as MOVED or ASK, thus never ran, is sent to
another. TRYAGAIN, a slot whose keys lie on two servers, is an error to wait out.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from consumer.ports import Later, Pending

Words = tuple[str | bytes | int, ...]

# A slot that moved again while its command was under way; more is a cluster in disorder.
_REDIRECTIONS = 3

# What redis-py adds to the options of a pool about that very server.
_OF_ONE_POOL = (
    "maint_notifications_pool_handler",
    "orig_host_address",
    "orig_socket_timeout",
    "orig_socket_connect_timeout",
)


class Call(NamedTuple):
    """A command and the key that tells its primary."""

    key: str
    words: Words


class Servers:
    """
    The primaries that *seed* leads to; whether it is a cluster is asked at the first use.

    Methods raise redis.RedisError as it comes. While a slot is on its way to another
    primary, what is not at the one any more is asked of the other (ASK); a function
    that needs keys on both sides is refused by the servers (see ``state.lua``).
    """

    def __init__(self, seed: redis.Redis) -> None:
        self._seed = seed
        self._clients: dict[tuple[str, int], redis.Redis] = {}
        self._primaries: tuple[redis.Redis, ...] = ()
        self._owners: list[redis.Redis | None] = []
        self._stale = True
        self._asked = 0

    @property
    def clustered(self) -> bool:
        """Whether keys are spread over slots; asks once."""
        self._know()
        return bool(self._owners)

    @property
    def primaries(self) -> tuple[redis.Redis, ...]:
        """A client of every primary, in the order of their slots."""
        self._know()
        return self._primaries

    def demand_all_slots(self) -> None:
        """Raise ClusterDownError where a slot of a cluster has no primary."""
        self._know()
        lost = sum(owner is None for owner in self._owners)
        if lost:
            self._stale = True
            message = f"{lost:,} of {len(self._owners):,} slots of the cluster have no primary"
            raise ClusterDownError(message)

    def owner(self, key: str | bytes) -> redis.Redis:
        """Return the client of the primary that holds *key*."""
        self._know()
        if not self._owners:
            return self._seed
        owner = self._owners[key_slot(key.encode() if isinstance(key, str) else key)]
        if owner is None:
            self._stale = True
            message = "a slot of the cluster has no primary"
            raise ClusterDownError(message)
        return owner

    def call(self, calls: Sequence[Call]) -> list[Any]:
        """
        Send *calls*, those of one key in order; return replies, errors among them.

        One round trip, whatever the number of primaries. A lost reply is an error in its
        place and is not asked for again.
        """
        return self.start(calls).result()

    def start(self, calls: Sequence[Call]) -> Pending[list[Any]]:
        """
        Send *calls* as ``call`` does; the result waits for the replies, and is to be asked for.

        The servers work meanwhile, each on a connection that nobody else gets.
        """
        sent = self._write(calls, dict.fromkeys(range(len(calls))))
        return Later(lambda: self._finish(calls, sent))

    def command(self, key: str, *words: str | bytes | int) -> Any:
        """Send one command to the primary of *key* and return its reply."""
        (reply,) = self.call([Call(key, words)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def on_primaries(self, commands: Sequence[Words]) -> list[list[Any]]:
        """Send the same *commands* to every primary at once; return replies by primary."""
        return self.on_each(dict.fromkeys(self.primaries, commands))

    def on_each(self, batches: Mapping[redis.Redis, Sequence[Words]]) -> list[list[Any]]:
        """Send each client its commands, all before reading; raise the first error of any."""
        answers = _read_all(_write_all(batches))
        for reply in (reply for replies in answers for reply in replies):
            if isinstance(reply, Exception):
                self._stale = True
                raise reply
        return answers

    def ping(self) -> None:
        """Ask every primary for a sign of life."""
        self.on_primaries([("PING",)])

    def close(self) -> None:
        """Close what was opened beside the seed, which stays its owner's."""
        for client in self._clients.values():
            client.close()

    def _finish(self, calls: Sequence[Call], sent: "_Sent") -> list[Any]:
        """Read the replies to *calls*, following what is refused as MOVED or ASK."""
        replies: list[Any] = [None] * len(calls)
        for _ in range(_REDIRECTIONS):
            self._read(sent, replies)
            waiting = {
                place: self._follow(reply)
                for places in sent.places
                for place in places
                if place is not None and isinstance(reply := replies[place], AskError)
            }
            if not waiting:
                return replies
            sent = self._write(calls, waiting)
        self._read(sent, replies)
        return replies

    def _write(self, calls: Sequence[Call], waiting: Mapping[int, redis.Redis | None]) -> "_Sent":
        """
        Send those of *calls* whose places are *waiting*.

        The value of a place is the node that an ASK named, which answers for a slot that
        it does not own yet when ASKING stands right before.
        """
        places: dict[redis.Redis, list[int | None]] = {}
        for index, named in waiting.items():
            own = places.setdefault(named or self.owner(calls[index].key), [])
            own += [index] if named is None else [None, index]
        written = _write_all(
            {
                client: [_ASKING if index is None else calls[index].words for index in own]
                for client, own in places.items()
            }
        )
        return _Sent(tuple(places.values()), written)

    def _read(self, sent: "_Sent", replies: list[Any]) -> None:
        """Put each reply to what was *sent* into its place among *replies*."""
        for own, answer in zip(sent.places, _read_all(sent.written), strict=True):
            asking: Any = None
            for place, reply in zip(own, answer, strict=True):
                if isinstance(reply, _MISLED):
                    self._stale = True
                if place is None:
                    asking = reply
                    continue
                # One that refuses the ASKING sends the command away, which says less.
                refused = isinstance(reply, AskError) and isinstance(asking, Exception)
                replies[place], asking = asking if refused else reply, None

    def _follow(self, redirection: AskError) -> redis.Redis | None:
        """
        Return the node that an ASK names, for this once.

        The word of a MOVED is taken for its slot, and None returned; the rest of the map
        is asked for before the next call.
        """
        node = self._client(redirection.host, redirection.port)
        if not isinstance(redirection, MovedError):
            return node
        self._owners[redirection.slot_id] = node
        return None

    def _know(self) -> None:
        """Learn the primaries, at first and after an error that may mean others."""
        if not self._stale or (self._primaries and not self._owners):
            return
        if not self._primaries and not _is_cluster(self._seed):
            self._primaries = (self._seed,)
        else:
            self._learn(self._slots())
        self._stale = False

    def _slots(self) -> list[Any]:
        """
        Ask one node for the map of slots, and the next if it does not answer.

        Another one begins each time, so that no node with an old map is asked for ever.
        """
        known = [self._seed, *self._clients.values()]
        start = self._asked % len(known)
        self._asked += 1
        failure: redis.RedisError | None = None
        for client in known[start:] + known[:start]:
            try:
                slots: list[Any] = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except (redis.ConnectionError, redis.TimeoutError) as error:
                failure = error
            else:
                return slots
        raise failure or ClusterDownError

    def _learn(self, slots: Sequence[Any]) -> None:
        """Fill the map from the reply to CLUSTER SLOTS: first, last, primary, replicas …"""
        owners: list[redis.Redis | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        primaries: dict[redis.Redis, None] = {}
        for first, last, primary, *replicas in sorted(slots, key=lambda row: int(row[0])):
            owner = self._client(*_address(primary))
            primaries[owner] = None
            owners[first : last + 1] = [owner] * (last + 1 - first)
            for replica in replicas:
                # Never sent a command, but it may know the map when its primary is gone.
                self._client(*_address(replica))
        self._primaries, self._owners = tuple(primaries), owners

    def _client(self, host: str, port: int) -> redis.Redis:
        """Return the client of a node, which speaks as the seed does: user, TLS, timeouts."""
        pool = self._seed.connection_pool
        options = dict(pool.connection_kwargs)
        # A node that does not know its own address answers with none.
        address = (host or options.get("host", "localhost"), port)
        client = self._clients.get(address)
        if client is None:
            for name in _OF_ONE_POOL:
                options.pop(name, None)
            options.update(host=address[0], port=port, db=0)
            own = redis.ConnectionPool(connection_class=pool.connection_class, **options)
            client = self._clients[address] = redis.Redis.from_pool(own)
        return client


_ASKING: Words = ("ASKING",)
_MISLED = (redis.ConnectionError, redis.TimeoutError, MovedError, redis.ReadOnlyError)


class _Written(NamedTuple):
    """A batch of *number* commands on its way, by a connection of redis-py or to an error."""

    client: redis.Redis
    number: int
    by: Any


class _Sent(NamedTuple):
    """What each server was sent: the places of the calls, None for an ASKING before one."""

    places: tuple[list[int | None], ...]
    written: list[_Written]


def _write_all(batches: Mapping[redis.Redis, Sequence[Words]]) -> list[_Written]:
    """Write every batch to its server; the replies of each are to be read."""
    return [
        _Written(client, len(commands), _write(client, commands))
        for client, commands in batches.items()
    ]


def _read_all(written: Sequence[_Written]) -> list[list[Any]]:
    """
    Read the replies to each batch; errors take their place.

    A connection that may still get replies is closed, so that nobody reads them as his.
    """
    return [_read(*batch) for batch in written]


def pack(commands: Iterable[Words]) -> bytes:
    """
    Return *commands* as they are sent: RESP arrays of bulk strings.

    A quarter of the time that redis-py takes, which a pipeline of thousands of calls notices.
    """
    parts: list[bytes] = []
    for words in commands:
        if words[0] == "FCALL":
            parts.append(_pack_head(len(words), words[:3]))
            words = words[3:]  # noqa: PLW2901 - what is left of them
        else:
            parts.append(b"*%d\r\n" % len(words))
        for word in words:
            data = word.encode() if isinstance(word, str) else word
            if isinstance(data, int):
                data = b"%d" % data
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


@lru_cache(maxsize=64)
def _pack_head(number: int, head: Words) -> bytes:
    """Return how a call of a function begins, of *number* words, the same for all its keys."""
    words = [str(word).encode() for word in head]
    return b"*%d\r\n" % number + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in words)


def _write(client: redis.Redis, commands: Sequence[Words]) -> Any:
    """Return the connection that *commands* were written to, or the error."""
    try:
        connection = client.connection_pool.get_connection()
    except redis.RedisError as error:
        return error
    try:
        connection.send_packed_command([pack(commands)])  # type: ignore[no-untyped-call]
    except redis.RedisError as error:
        connection.disconnect()  # type: ignore[no-untyped-call]
        client.connection_pool.release(connection)
        return error
    return connection


def _read(client: redis.Redis, number: int, written: Any) -> list[Any]:
    if isinstance(written, redis.RedisError):
        return [written] * number
    replies: list[Any] = []
    try:
        while len(replies) < number:
            try:
                replies.append(written.read_response())
            except redis.ResponseError as error:
                replies.append(error)
    except redis.RedisError as error:
        replies += [error] * (number - len(replies))
        written.disconnect()
    except BaseException:
        written.disconnect()
        raise
    finally:
        if any(isinstance(reply, redis.ReadOnlyError) for reply in replies):
            # The server became a replica; its name may lead to the new primary by now.
            written.disconnect()
        client.connection_pool.release(written)
    return replies


def _is_cluster(seed: redis.Redis) -> bool:
    facts: dict[str, object] = seed.info("cluster")
    return str(facts.get("cluster_enabled", 0)) == "1"


def _address(node: Sequence[Any]) -> tuple[str, int]:
    """Return host and port of *node* in CLUSTER SLOTS; an unknown host is empty."""
    host = node[0].decode() if node[0] else ""
    return ("" if host == "?" else host), int(node[1])
