"""
What boto3 sees of the endpoint server is what it would see of SageMaker.

The client is a real one over real HTTP; the models are sums, so that every
answer can be checked by hand.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
import pytest
import urllib3
import uvicorn
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from consumer.local.containers import (
    ContainerError,
    RandomCutForest,
    Rows,
    Values,
    XGBoost,
    parse_csv,
)
from consumer.local.ports import listen, port_of
from consumer.local.runtime import MAX_BODY_BYTES, build_application

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient


@dataclass(frozen=True)
class Sum:
    """Scores a row with a tenth of its sum."""

    kind: Literal["fraud", "anomaly"]
    feature_names: tuple[str, ...] = ("a", "b", "c")

    def predict(self, rows: Rows) -> Values:
        if np.isinf(rows).any():
            message = "Input data contains `inf`"
            raise ValueError(message)
        return np.asarray(np.nansum(rows, axis=1) / 10.0, dtype=np.float64)


@dataclass(frozen=True)
class Server:
    url: str
    client: "SageMakerRuntimeClient"

    def invoke(self, name: str, body: bytes, **options: Any) -> bytes:
        given = {"ContentType": "text/csv", "Accept": "application/json", **options}
        return self.client.invoke_endpoint(EndpointName=name, Body=body, **given)["Body"].read()

    def refuse(self, name: str, body: bytes, **options: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            self.invoke(name, body, **options)
        return dict(caught.value.response)

    def stats(self, name: str) -> dict[str, Any]:
        with urllib3.PoolManager() as http:
            answer = http.request("GET", f"{self.url}/stats")
        counts: dict[str, Any] = orjson.loads(answer.data)["endpoints"][name]
        return counts


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    models = {"fraud": Sum("fraud"), "anomaly": Sum("anomaly")}
    listener = listen(0, "endpoints")
    url = f"http://127.0.0.1:{port_of(listener)}"
    config = uvicorn.Config(build_application(models), log_level="warning", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    client = Session("test", "test", region_name="us-east-1").client(
        "sagemaker-runtime",
        endpoint_url=url,
        config=Config(retries={"max_attempts": 0}, proxies={}, connect_timeout=10),
    )
    yield Server(url, client)
    client.close()
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def unasked_server() -> Iterator[Server]:
    """One whose counters stand at 0."""
    with running_server() as running:
        yield running


def test_xgboost_answers_json_with_one_prediction_a_row(server: Server) -> None:
    body = server.invoke("fraud", b"1,2,3\n4,5,6\n0,0,0.5")

    scores = [entry["score"] for entry in orjson.loads(body)["predictions"]]
    assert scores == [0.6, 1.5, 0.05]


def test_the_forest_answers_json_with_one_score_a_row(server: Server) -> None:
    body = server.invoke("anomaly", b"1,2,3\n4,5,6\n")

    assert orjson.loads(body) == {"scores": [{"score": 0.6}, {"score": 1.5}]}


@pytest.mark.parametrize("accept", ["text/csv", "*/*", "text/csv; charset=utf-8"])
def test_xgboost_answers_csv_line_by_line(server: Server, accept: str) -> None:
    assert server.invoke("fraud", b"1,2,3\n4,5,6", Accept=accept) == b"0.6\n1.5"


def test_old_images_of_xgboost_answer_csv_on_one_line() -> None:
    answer = XGBoost(Sum("fraud"), ",").invoke(b"1,2,3\n4,5,6", "text/csv", "text/csv")

    assert answer.body == b"0.6,1.5"


def test_the_media_type_and_the_variant_stand_on_the_answer(server: Server) -> None:
    answer = server.client.invoke_endpoint(
        EndpointName="fraud", Body=b"1,2,3", ContentType="text/csv", Accept="application/json"
    )

    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_an_inference_id_is_taken_down_and_not_sent_back(unasked_server: Server) -> None:
    answer = unasked_server.client.invoke_endpoint(
        EndpointName="fraud", Body=b"1,2,3", ContentType="text/csv", InferenceId="tx_1"
    )

    assert unasked_server.stats("fraud")["inference_ids"] == ["tx_1"]
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert not any("inference-id" in name for name in headers)


def test_an_inference_id_that_is_too_long_is_refused(server: Server) -> None:
    response = server.refuse("fraud", b"1,2,3", InferenceId="x" * 65)

    assert response["Error"]["Code"] == "ValidationError"
    assert "less than or equal to 64" in response["Error"]["Message"]


def test_an_unknown_endpoint_is_a_validation_error(server: Server) -> None:
    response = server.refuse("fruad", b"1,2,3")

    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint fruad of account 123456789012 not found.",
    }


@pytest.mark.parametrize("name", ["fraud", "anomaly"])
@pytest.mark.parametrize("body", [b"1,2", b"1,2,3,4"])
def test_a_row_of_another_width_is_a_model_error(server: Server, name: str, body: bytes) -> None:
    response = server.refuse(name, body)

    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert "evaluate payload provided" in response["OriginalMessage"]
    assert response["Error"]["Message"].startswith(
        'Received client error (400) from primary with message "'
    )
    assert f"/aws/sagemaker/Endpoints/{name} in account" in response["Error"]["Message"]


@pytest.mark.parametrize(
    ("name", "body", "content_type", "status"),
    [
        ("fraud", b'{"a": 1}', "application/json", 415),
        ("fraud", b"1,two,3", "text/csv", 415),
        ("fraud", b"1,2,3\n1,2", "text/csv", 415),
        ("fraud", b"\xff,2,3", "text/csv", 415),
        ("fraud", b"1,inf,3", "text/csv", 400),
        ("anomaly", b"1,2,3", "application/x-image", 415),
        ("anomaly", b"1,two,3", "text/csv", 400),
        ("anomaly", b"1,,3", "text/csv", 400),
        ("anomaly", b"1,2,3\n1,2", "text/csv", 400),
        ("anomaly", b"", "text/csv", 400),
    ],
)
def test_what_a_container_refuses_comes_as_a_model_error_with_its_status(
    server: Server, name: str, body: bytes, content_type: str, status: int
) -> None:
    response = server.refuse(name, body, ContentType=content_type)

    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == status


@pytest.mark.parametrize(("name", "accept"), [("fraud", "image/png"), ("anomaly", "text/csv")])
def test_an_accept_type_that_a_container_lacks_is_not_acceptable(
    server: Server, name: str, accept: str
) -> None:
    assert server.refuse(name, b"1,2,3", Accept=accept)["OriginalStatusCode"] == 406


def test_an_empty_field_is_a_missing_value_for_xgboost(server: Server) -> None:
    assert orjson.loads(server.invoke("fraud", b"1,,3")) == {"predictions": [{"score": 0.4}]}


def test_an_empty_body_is_an_empty_answer_of_xgboost(server: Server) -> None:
    assert server.invoke("fraud", b"") == b""


def test_a_body_above_six_mebibytes_is_refused_before_a_model_sees_it(
    unasked_server: Server,
) -> None:
    row = b"1,2,3\n"
    fitting = row * (MAX_BODY_BYTES // len(row))

    response = unasked_server.refuse("anomaly", fitting + row)

    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert unasked_server.stats("anomaly")["requests"] == 0
    assert len(orjson.loads(unasked_server.invoke("anomaly", row * 1_000))["scores"]) == 1_000


def test_requests_rows_and_refusals_are_counted_an_endpoint(unasked_server: Server) -> None:
    unasked_server.invoke("fraud", b"1,2,3\n4,5,6")
    unasked_server.invoke("fraud", b"1,2,3")
    unasked_server.refuse("fraud", b"1,2")
    unasked_server.refuse("nobody", b"1,2,3")

    counted = unasked_server.stats("fraud")
    assert (counted["kind"], counted["requests"], counted["rows"], counted["errors"]) == (
        "fraud",
        3,
        3,
        1,
    )
    assert unasked_server.stats("anomaly")["requests"] == 0


def test_ping_answers(server: Server) -> None:
    with urllib3.PoolManager() as http:
        assert http.request("GET", f"{server.url}/ping").status == 200


def test_a_failure_inside_the_forest_is_a_refusal_of_its_payload() -> None:
    with pytest.raises(ContainerError) as caught:
        RandomCutForest(Sum("anomaly")).invoke(b"1,2,3,4", "text/csv", "")

    assert caught.value.status == 400


def test_csv_with_windows_line_ends_and_spaces_is_read() -> None:
    rows = parse_csv(b" 1, 2\r\n3 ,4\r\n")

    assert rows.tolist() == [[1.0, 2.0], [3.0, 4.0]]
