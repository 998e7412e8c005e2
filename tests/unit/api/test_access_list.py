"""What a list of access says, and how it is refused."""

import json
from datetime import UTC, datetime

import pytest
import yaml

from consumer.api.access_list import Scope, parse_access
from consumer.errors import Misconfigured
from tests.signing import ACCESS, EXPIRED, GATEWAY_SECRET, KEY, SECRET, TEMPORARY, TOKEN

GOOD = f"""\
keys:
  - access_key_id: {KEY}
    secret_access_key: {SECRET}
    name: checkout
    scopes: [predict]
"""


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        parse_access(text.encode() if isinstance(text, str) else text, "access.yaml")
    told = [str(problem) for problem in caught.value.problems]
    assert not any(SECRET in each or GATEWAY_SECRET in each for each in told)
    return told


def test_a_list_says_who_has_a_key_and_what_he_may_do() -> None:
    access = parse_access(ACCESS.encode(), "access.yaml")
    key = access.keys[KEY]
    assert (key.secret.secret_key, key.secret.token, key.name) == (SECRET, None, "checkout")
    assert key.scopes == {Scope.PREDICT, Scope.READ}
    assert access.keys[TEMPORARY].secret.token == TOKEN
    assert access.keys[EXPIRED].expires == datetime(2026, 1, 31, tzinfo=UTC)
    assert access.gateway_secrets == (GATEWAY_SECRET,)
    assert GATEWAY_SECRET not in repr(access)
    assert SECRET not in repr(access)


def test_json_says_the_same() -> None:
    written = yaml.safe_load(ACCESS)
    written["keys"][2]["expires"] = "2026-01-31T01:00:00+01:00"
    text = json.dumps(written, indent="\t").encode()
    assert parse_access(text, "s") == parse_access(ACCESS.encode(), "s")


def test_two_keys_of_one_name_stand_side_by_side_while_one_replaces_the_other() -> None:
    second = GOOD.replace("keys:\n", "").replace(KEY, "AKIDSECOND")
    access = parse_access((GOOD + second).encode(), "access.yaml")
    assert {key.name for key in access.keys.values()} == {"checkout"}
    assert len(access.keys) == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (KEY, "short", "access.yaml:2:20: keys[0].access_key_id: found a text of 5 characters"),
        (KEY, "12345678", "keys[0].access_key_id: found a number, expected 8 to 128 of A-Z a-z 0"),
        (SECRET, "tooshort", "access.yaml:3:24: keys[0].secret_access_key: found a text of 8 char"),
        (SECRET, SECRET[:-1] + " x", "secret_access_key: found a text of 41 characters, expected"),
        (f"    secret_access_key: {SECRET}\n", "", "keys[0].secret_access_key: found nothing"),
        ("[predict]", "[predict, write]", "access.yaml:5:23: keys[0].scopes[1]: found a text of"),
        ("[predict]", "predict", "keys[0].scopes: found a text of 7 characters, expected a list"),
        ("[predict]", "[]", "keys[0].scopes: found a list, expected a list of predict, read"),
        ("checkout", "a b", "keys[0].name: found a text of 3 characters, expected 1 to 64 of"),
        ("name:", "nam:", "access.yaml:4:5: keys[0].nam: found an unknown key, expected name? one"),
        ("[predict]", "[predict]\n    expires: 2027-01-31", "expires: found a value, expected a"),
        ("[predict]", "[predict]\n    expires: soon", "expires: found a text of 4 characters"),
        ("[predict]", "[predict]\n    session_token: ''", "session_token: found a text of 0 char"),
        (
            "keys:\n",
            "keys: {}\nother:\n",
            "access.yaml:1:7: keys: found keys and values, expected a list",
        ),
        ("keys:\n", "keys: [1]\nother:\n", "keys[0]: found a number, expected keys and values"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert any(expected in each for each in problems(GOOD.replace(old, new)))


def test_everything_wrong_is_told_at_once() -> None:
    assert len(problems(GOOD.replace(KEY, "x").replace("checkout", "a?"))) == 2


def test_a_key_that_stands_twice_is_refused() -> None:
    (told,) = problems(GOOD + GOOD.replace("keys:\n", ""))
    assert "keys[1].access_key_id: found one from above, expected each once" in told


def test_callers_need_a_secret_of_the_gateway() -> None:
    callers = ACCESS[ACCESS.index("callers:") : ACCESS.index("gateway_secrets:")]
    (told,) = problems(callers)
    assert "gateway_secrets: found nothing, expected a secret of the gateway" in told
    (told,) = problems(f"{callers}gateway_secrets: [{GATEWAY_SECRET[:20]}]")
    assert "gateway_secrets[0]: found a text of 20 characters, expected 32 to 256" in told
    (told,) = problems(f"{callers}gateway_secrets: {GATEWAY_SECRET}")
    assert "gateway_secrets: found a text of 32 characters, expected a list" in told


def test_a_caller_is_an_arn() -> None:
    told = problems(ACCESS.replace("arn:aws:sts::111122223333:assumed-role/checkout/*", "role"))
    assert "callers[0].arn: found a text of 4 characters, expected the ARN of" in told[0]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b"{",
        b'{"keys": [], "keys": []}',
        b"keys: [}",
        f"keys: !!float {SECRET}".encode(),
        f"keys: []\nkeys: {SECRET}".encode(),
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_list_is_refused_without_repeating_it(text: bytes) -> None:
    assert len(problems(text)) == 1


def test_a_star_stands_for_a_part_of_a_name() -> None:
    access = parse_access(ACCESS.encode(), "access.yaml")
    role = "arn:aws:sts::111122223333:assumed-role"
    assert access.find_caller(f"{role}/checkout/web-1") is not None
    assert access.find_caller(f"{role}/checkout/web/1") is None
    assert access.find_caller(f"{role}/checkoutx/web") is None
    assert access.find_caller(f"x{role}/checkout/web") is None
    assert access.find_caller("") is None
