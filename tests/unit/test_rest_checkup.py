"""What the preflight says of the REST service."""

from datetime import UTC, datetime

import pytest

from consumer.api.access_list import parse_access
from consumer.checkup import Finding, Level
from consumer.errors import Misconfigured
from consumer.rest_checkup import judge_access, judge_service, list_problems, no_list
from consumer.settings import Api, ApiAuth, Scoring, Settings
from tests.signing import GATEWAY_SECRET, SECRET

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = f"""\
  - access_key_id: FSCHECKOUT01
    secret_access_key: {SECRET}
    name: checkout
    scopes: [predict, read]
"""
CALLERS = f"""\
callers:
  - arn: arn:aws:sts::111122223333:assumed-role/checkout/*
    name: checkout
    scopes: [predict]
gateway_secrets:
  - {GATEWAY_SECRET}
"""


def judged(text: str, kind: str = "sigv4") -> list[Finding]:
    api = Api(auth=ApiAuth(kind=kind))  # type: ignore[arg-type]
    return judge_access(parse_access(text.encode(), "access.yaml"), api, "access.yaml", NOW)


def test_a_sound_list_tells_who_may_do_what_and_no_secret() -> None:
    (found,) = judged(f"keys:\n{KEY}")
    assert found.level is Level.OK
    assert found.text == "access.yaml: 1 key of checkout (predict read)"


@pytest.mark.parametrize(
    ("text", "kind", "level", "said"),
    [
        ("keys: []", "sigv4", Level.FAIL, "no key: nobody is let in"),
        (f"keys:\n{KEY}    expires: 2026-05-31T00:00:00Z", "sigv4", Level.FAIL, "every key"),
        (f"keys:\n{KEY}    expires: 2026-06-10T00:00:00Z", "sigv4", Level.WARN, "expires at"),
        (f"keys:\n{KEY}{CALLERS}", "sigv4", Level.WARN, "callers are not looked at"),
        (f"keys:\n{KEY}", "gateway", Level.FAIL, "no caller"),
        (CALLERS, "gateway", Level.OK, "1 caller (checkout) behind API Gateway"),
    ],
)
def test_a_list_that_lets_nobody_in_or_soon_will_not_is_told(
    text: str, kind: str, level: Level, said: str
) -> None:
    (found,) = judged(text, kind)
    assert (found.level, bool(found.remedy)) == (level, level is not Level.OK)
    assert said in found.text


def test_a_key_that_has_expired_beside_its_successor_is_a_warning() -> None:
    former = KEY.replace("01", "00") + "    expires: 2026-05-31T00:00:00Z\n"
    (found,) = judged(f"keys:\n{former}{KEY}")
    assert found.level is Level.WARN
    assert "a key of checkout expired" in found.text


def test_what_is_wrong_with_a_list_is_told_by_file_line_and_key() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_access(f"keys:\n{KEY}".replace("predict", "pay").encode(), "access.yaml")
    (found,) = list_problems(caught.value.problems)
    assert found.level is Level.FAIL
    assert found.text.startswith("access.yaml:5:14: keys[0].scopes[0]: ")
    assert "predict, read, label, admin" in found.remedy
    assert SECRET not in f"{found.text}{found.remedy}"


def test_without_a_list_only_a_gateway_is_stuck() -> None:
    assert no_list(Api()).level is Level.OK
    assert no_list(Api(auth=ApiAuth(kind="gateway"))).level is Level.FAIL


def service(settings: Settings, *, installed: bool = True, files: int | None = None) -> Finding:
    (found,) = judge_service(settings, installed=installed, files=files)
    return found


def test_settings_that_fit_together_are_one_line() -> None:
    found = service(Settings())
    assert found.level is Level.OK
    assert "127.0.0.1:8080" in found.text


@pytest.mark.parametrize(
    ("api", "said"),
    [
        (Api(timeout_ms=100), "ends before scoring.deadline_ms"),
        (Api(in_flight_limit=10), "above api.in_flight_limit"),
        (Api(host="0.0.0.0", metrics="open"), "may read /metrics"),
        (Api(daemon_urls=("daemon:9464",)), "daemon:9464 is no address"),
    ],
)
def test_settings_that_do_not_fit_together_have_a_remedy(api: Api, said: str) -> None:
    found = service(Settings(api=api, scoring=Scoring(deadline_ms=200)))
    assert found.level is Level.WARN
    assert said in found.text
    assert found.remedy


def test_a_server_that_is_not_installed_or_has_too_few_files_is_told() -> None:
    assert "fraudstream[api]" in service(Settings(), installed=False).remedy
    assert "LimitNOFILE" in service(Settings(), files=1_024).remedy
