"""The service under what its own document allows and forbids: schemathesis over real HTTP."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from consumer.local.redis_server import RedisServer
from tests.examples import examples
from tests.rest_service import Service, running_service, stub_aws
from tests.signing import KEY, REGION, SECRET, SERVICE

# The document cannot say all that the decoder refuses: card numbers, equal keys, decimals of a
# currency, a missing conversion. So what it allows may be answered with 422. Who is let in is
# tried with forged requests elsewhere.
_NOT_ASKED = frozenset({"positive_data_acceptance", "ignored_auth"})
# What is wrong with one of a batch is a result of its own, in an answer that is good.
_NOT_ASKED_OF = {"predict_batch": _NOT_ASKED | {"negative_data_rejection"}}


class Signed(requests.auth.AuthBase):
    """Signs as botocore does, whatever the request is."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        data = body.encode() if isinstance(body, str) else body
        signed = AWSRequest(request.method, request.url, data=data)
        SigV4Auth(Credentials(KEY, SECRET), SERVICE, REGION).add_auth(signed)
        request.headers.update({name: str(value) for name, value in signed.headers.items()})
        return request


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("rest")
    with (
        RedisServer(directory=folder) as redis,
        stub_aws(folder) as aws,
        running_service(folder / "serve", {"REDIS__URL": redis.url, **aws}) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.auth = Signed()
        yield session


OPERATIONS = (
    *("predict", "predict_batch", "label", "find_transactions", "read_transaction", "read_entity"),
    *("read_rules", "read_models", "read_health", "read_readiness", "read_metrics", "describe"),
    *("list_alerts", "read_evidence", "sign_in", "read_session", "sign_out", "invite"),
)
# What any request may get, and what only some may.
_OF_ALL = {"400", "408", "422", "431", "500", "503"}
_OF_KNOWN = {"401", "403", "413"}
_OF_BODIES = {"413", "415"}
_OF_PREDICTIONS = {"429", "504"}


def test_a_client_can_be_generated_from_the_document(service: Service) -> None:
    document = service.get("/openapi.json", signed=False).fields
    names = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names.add(operation["operationId"])
            answers = operation["responses"]
            known = {"sigv4": []} in operation["security"]
            wanted = _OF_ALL | (_OF_KNOWN if known else set())
            wanted |= _OF_BODIES if "requestBody" in operation else set()
            wanted |= _OF_PREDICTIONS if "predict" in operation["operationId"] else set()
            wanted |= {"409"} if operation["operationId"] == "predict" else set()
            assert wanted <= answers.keys(), (method, path)
            assert "Retry-After" in answers["503"]["headers"]
            placed = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert placed == set(re.findall(r"{(\w+)}", path))
            for part in (operation.get("requestBody", {}), *answers.values()):
                for content in part.get("content", {}).values():
                    assert _is_typed(content["schema"], document), (method, path)
            assert [status for status, each in answers.items() if not each.get("content")] == (
                ["204"] if operation["operationId"] == "sign_out" else []
            )
    assert names == set(OPERATIONS)
    assert sum(len(methods) for methods in document["paths"].values()) == len(OPERATIONS)


def _is_typed(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether *schema* says what a value is, following all that it refers to."""
    for name in re.findall(r"#/components/schemas/([\w.]+)", str(schema)):
        found = document["components"]["schemas"][name]
        if not {"type", "anyOf", "enum", "oneOf"} & found.keys():
            return False
    return bool({"type", "$ref"} & schema.keys())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_what_the_document_allows_and_forbids_is_answered_as_it_says(
    service: Service, session: requests.Session, mode: GenerationMode
) -> None:
    load_all_checks()
    document = service.get("/openapi.json", signed=False).fields
    # Every request is signed, whatever else is wrong with it.
    del document["components"]["securitySchemes"]
    for methods in document["paths"].values():
        for operation in methods.values():
            del operation["security"]
    schema = schemathesis.openapi.from_dict(document)
    answered: Counter[int] = Counter()
    names = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        name = operation.definition.raw["operationId"]
        names.add(name)
        unasked = _NOT_ASKED_OF.get(name, _NOT_ASKED)
        excluded = [check for check in CHECKS.get_all() if check.__name__ in unasked]
        _try(operation, mode, partial(_send, service, session, excluded), answered)
    assert names == set(OPERATIONS)
    assert b'"level":"error"' not in service.log.read_bytes()
    assert sum(answered.values()) > 10 * len(OPERATIONS) * (mode is GenerationMode.POSITIVE)
    assert answered[200] > 0 or mode is GenerationMode.NEGATIVE


def _send(service: Service, session: requests.Session, excluded: list[Any], case: Any) -> int:
    answer = case.call_and_validate(
        base_url=service.url, session=session, excluded_checks=excluded, timeout=60
    )
    return int(answer.status_code)


def _try(operation: Any, mode: GenerationMode, send: Any, answered: Counter[int]) -> None:
    @hypothesis.settings(
        max_examples=examples(18),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(mode))
    def one(case: Any) -> None:
        answered[send(case)] += 1

    try:
        one()
    except hypothesis.errors.Unsatisfiable:
        # Nothing can be wrong with an operation that takes nothing, or only text in headers.
        assert mode is GenerationMode.NEGATIVE
        assert all(each["in"] == "header" for each in operation.definition.raw["parameters"])
