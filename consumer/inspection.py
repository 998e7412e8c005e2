"""
The composition root of the commands that look and change nothing.

Apart from ``app.py``, so that a question to Redis does not import the KCL, the
engine and the clients of AWS first.
"""

from contextlib import ExitStack, closing

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.search import RedisSearch
from consumer.settings import Settings

# The server gives up before the client does, so that a partial answer still arrives.
_SEARCH_SHARE = 0.8


def open_search(settings: Settings, stack: ExitStack) -> RedisSearch:
    """The decision documents; *stack* closes the connection."""
    redis = settings.redis
    client = connect(
        (redis.documents_url or redis.url).get_secret_value(),
        connect_timeout_s=redis.connect_timeout_s,
        timeout_s=redis.timeout_s,
    )
    return RedisSearch(stack.enter_context(closing(client)), redis.timeout_s * _SEARCH_SHARE)
