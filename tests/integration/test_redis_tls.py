"""TLS with a private authority, and a user that may do what docs/redis.md says and no more."""

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from consumer.adapters.redis.accepted_rules import RedisAcceptedRules
from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command, connect, translated
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.durability import RedisDurability
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.search import RedisSearch, count_decisions, count_documents
from consumer.adapters.redis.survey import survey_index, survey_servers
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.document import DocumentFormat
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, LabelEffect, Outcome, TransactionId
from consumer.ports import Observe
from consumer.query import Query
from tests.builders import NOON, a_label, a_transaction, an_assessment
from tests.redis_cluster import RedisCluster, a_moving_slot, await_condition

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
PAGE = Path(__file__).parents[2] / "docs/redis.md"
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: card_count_1d, entity: card, aggregation: count, windows: [1d]}
  - {name: card_fraud_1d, entity: card, aggregation: fraud_rate, windows: [1d]}
""",
    source="acl",
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class TlsProxy:
    """Ends TLS in front of a server that was built without it."""

    def __init__(self, upstream: int, certificate: Path, key: Path) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        """Answer by turns, which is how a client of Redis speaks."""
        try:
            with (
                plain,
                self._context.wrap_socket(plain, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", self._upstream)) as server,
            ):
                thread = threading.Thread(target=_pour, args=(server, secure), daemon=True)
                thread.start()
                _pour(secure, server)
                server.shutdown(socket.SHUT_RDWR)
                thread.join(5)
        except OSError:
            return


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        return


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "ca.pem", folder / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    try:
        subprocess.run([*words, "-out", str(certificate)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return certificate, key


@pytest.fixture
def tls(server: RedisServer, authority: tuple[Path, Path]) -> Iterator[TlsProxy]:
    with closing(TlsProxy(_port(server), *authority)) as proxy:
        yield proxy


def test_decisions_and_features_travel_over_tls(
    tls: TlsProxy, authority: tuple[Path, Path]
) -> None:
    url = f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={authority[0]}"
    with connect(url, connect_timeout_s=2, timeout_s=2) as client:
        client.flushall()
        use_everything(client)


def test_a_certificate_of_an_unknown_authority_is_refused(tls: TlsProxy) -> None:
    with (
        connect(f"rediss://127.0.0.1:{tls.port}/0", connect_timeout_s=2, timeout_s=2) as client,
        pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"),
        translated(),
    ):
        client.ping()


def test_every_node_of_a_cluster_is_reached_as_the_same_user_over_tls(
    authority: tuple[Path, Path],
) -> None:
    """Nodes name the ports at which TLS ends, and let nobody in without a password."""
    with RedisCluster() as cluster, ExitStack() as stack:
        proxies = [
            stack.enter_context(closing(TlsProxy(_port(server), *authority)))
            for server in cluster.servers
        ]
        for node, proxy in zip(cluster.clients, proxies, strict=True):
            command(node, *the_documented_user())
            node.config_set("cluster-announce-port", proxy.port)
            command(node, "ACL", "SETUSER", "default", "resetpass", ">owner")
        ports = {proxy.port for proxy in proxies}
        await_condition(lambda: all(_announced(node) == ports for node in cluster.clients))
        address = f"127.0.0.1:{proxies[0].port}/0?ssl_ca_certs={authority[0]}"
        url = f"rediss://fraudstream:secret@{address}"
        with connect(url, connect_timeout_s=2, timeout_s=5) as client:
            use_everything(client)
            with closing(Servers(client)) as servers:
                assert len(servers.primaries) == 3
                with a_moving_slot(cluster, key_slot(b"fraudstream:9")) as moving:
                    servers.command("fraudstream:9", "SET", "fraudstream:9", "asked")
                assert moving.target.get("fraudstream:9") == b"asked"
        for stranger in (f"rediss://{address}", f"rediss://fraudstream:wrong@{address}"):
            with (
                connect(stranger, connect_timeout_s=2, timeout_s=5) as client,
                pytest.raises(Unavailable),
            ):
                use_everything(client)


def _announced(node: redis.Redis) -> set[int]:
    return {int(row[2][1]) for row in command(node, "CLUSTER", "SLOTS")}


def the_documented_user() -> list[str]:
    """The words of the command in the page, with a password."""
    found = re.search(r"^ACL SETUSER fraudstream [^`]*", PAGE.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[0].replace("PASSWORD", "secret").split()


def test_the_documented_user_can_do_its_work_and_nothing_else(server: RedisServer) -> None:
    with connect(server.url, connect_timeout_s=2, timeout_s=2) as owner:
        owner.flushall()
        owner.function_flush()
        command(owner, *the_documented_user())
    url = server.url.replace("redis://", "redis://fraudstream:secret@")
    with connect(url, connect_timeout_s=2, timeout_s=2) as client:
        use_everything(client)
        for forbidden in (
            ("FLUSHALL",),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("KEYS", "*"),
            ("GET", "another:application"),
            ("DEL", "another:application"),
            ("ACL", "LIST"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                command(client, *forbidden)


def use_everything(client: redis.Redis) -> None:
    """Do all that workers, commands and the preflight do."""
    store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000, hot_after=2)
    documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
    with closing(Servers(client)) as servers, closing(RedisWarmth(client)) as warmth:
        durability = RedisDurability([servers], replicas=0, timeout_s=0.1)
        durability.begin()
        assert warmth.swap(warmth.read(), b"{}") == b"{}"
        store.prepare()
        store.verify()
        documents.prepare()
        store.ping()
        times = range(0, 90_000, 9_000)
        store.observe([Observe(a_transaction(t), int(NOON.timestamp()) + t) for t in times])
        store.label([an_effect(t) for t in (*times, *times)])
        documents.label([a_label(1)])
        documents.decide(
            [
                an_assessment(1, decision=Decision(Outcome.DECLINE, ("fraud_score_high",))),
                an_assessment(2),
            ]
        )
        documents.label([a_label(2)])
        Explanations(client).write(TransactionId("tx_1"), b"[1]")
        assert durability.confirm()
    with closing(RedisAcceptedRules(client)) as accepted:
        assert accepted.keep("a", b"one")
        accepted.trip("b", "a", b"one")
        accepted.accept("b", b"two")
        assert (accepted.read(), accepted.version()) == (b"two", "b")
    assert count_documents(client) == 2
    assert count_decisions(client) == {"approve": 1, "decline": 1}
    search = RedisSearch(client, 1.0)
    assert search.search(Query(card="card_1")).total == 2
    assert search.read(TransactionId("tx_1")) is not None
    assert survey_index(client).documents == 2
    for facts in survey_servers(client).values():
        assert facts.modules >= {"rejson", "search"}


def an_effect(number: int) -> LabelEffect:
    return LabelEffect(
        label_id=f"label_{number}",
        transaction_id=TransactionId(f"tx_{number}"),
        fraud=True,
        label_time_ms=int(NOON.timestamp() * 1000) + 10**9,
        event_time_s=int(NOON.timestamp()) + number,
        keys={"card_id": "card_1"},
    )


def _port(server: RedisServer) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])
