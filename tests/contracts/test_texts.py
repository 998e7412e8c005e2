"""The promises of small versioned texts, on the fake, on files and on an S3 over HTTP."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from consumer.adapters.files import AUDIT, FileTexts
from consumer.adapters.s3.texts import S3Texts
from consumer.errors import Unavailable
from consumer.ports import Texts
from tests.emulated_s3 import emulated_s3
from tests.fakes.texts import FakeTexts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SUFFIX = ".ndjson"
NUMBERS = count()


@pytest.fixture(scope="module")
def s3() -> Iterator["S3Client"]:
    with emulated_s3() as client:
        yield client


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    name = f"texts-{next(NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["fake", "files", "s3"])
def texts(request: pytest.FixtureRequest, tmp_path: Path) -> Texts:
    if request.param == "fake":
        return FakeTexts("lists")
    if request.param == "files":
        return FileTexts(tmp_path, f"*{SUFFIX}")
    return S3Texts(
        request.getfixturevalue("s3"), request.getfixturevalue("bucket"), "lists/", SUFFIX
    )


def test_nothing_is_there_before_something_is(texts: Texts) -> None:
    assert texts.versions() == {}


def test_what_was_written_is_read_under_its_name(texts: Texts) -> None:
    texts.change("a.ndjson", b"one", None, b"{}")
    assert list(texts.versions()) == ["a.ndjson"]
    assert texts.read("a.ndjson") == b"one"


def test_another_content_has_another_version_and_the_others_keep_theirs(texts: Texts) -> None:
    texts.change("a.ndjson", b"one", None, b"{}")
    texts.change("b.ndjson", b"two", None, b"{}")
    before = texts.versions()
    texts.change("a.ndjson", b"other", before["a.ndjson"], b"{}")
    after = texts.versions()
    assert after["a.ndjson"] != before["a.ndjson"]
    assert after["b.ndjson"] == before["b.ndjson"]
    assert texts.read("a.ndjson") == b"other"


@pytest.mark.parametrize("expected", [None, '"0123456789abcdef0123456789abcdef"'])
def test_a_text_that_someone_else_changed_is_left_alone(texts: Texts, expected: str | None) -> None:
    texts.change("a.ndjson", b"one", None, b"{}")
    with pytest.raises(Unavailable):
        texts.change("a.ndjson", b"mine", expected, b"{}")
    assert texts.read("a.ndjson") == b"one"


def test_the_place_says_where_they_are(texts: Texts) -> None:
    assert texts.place


def test_a_file_of_its_own_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    (tmp_path / "other.yaml").write_text("")
    texts = FileTexts(tmp_path, "rules.yaml")
    assert list(texts.versions()) == ["rules.yaml"]
    assert texts.place == str(tmp_path / "rules.yaml")


def test_files_have_their_audit_beside_them_a_line_a_change(tmp_path: Path) -> None:
    texts = FileTexts(tmp_path, f"*{SUFFIX}")
    texts.change("a.ndjson", b"one", None, b'{"n": 1}')
    texts.change("a.ndjson", b"two", texts.versions()["a.ndjson"], b'{"n": 2}')
    assert (tmp_path / AUDIT).read_bytes() == b'{"n": 1}\n{"n": 2}\n'
    assert list(texts.versions()) == ["a.ndjson"]
    assert (tmp_path / "a.ndjson").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    texts = FileTexts(tmp_path / "gone", f"*{SUFFIX}")
    with pytest.raises(Unavailable, match="No such file"):
        texts.read("a.ndjson")
    with pytest.raises(Unavailable):
        texts.change("a.ndjson", b"", None, b"{}")


def test_a_key_of_its_own_is_one_text(s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="config/rules.yaml", Body=b"version: 1\n")
    s3.put_object(Bucket=bucket, Key="config/rules.yaml.bak", Body=b"")
    texts = S3Texts(s3, bucket, "config/rules.yaml")
    (name,) = texts.versions()
    assert texts.read(name) == b"version: 1\n"
    assert texts.place == f"s3://{bucket}/config/rules.yaml"


def test_objects_have_their_audit_below_and_it_is_no_text(s3: "S3Client", bucket: str) -> None:
    texts = S3Texts(s3, bucket, "lists/", SUFFIX)
    texts.change("a.ndjson", b"one", None, b'{"n": 1}')
    (entry,) = s3.list_objects_v2(Bucket=bucket, Prefix="lists/audit/")["Contents"]
    assert orjson.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()) == {"n": 1}
    assert list(texts.versions()) == ["a.ndjson"]


def test_a_bucket_that_is_gone_is_unavailable(s3: "S3Client") -> None:
    texts = S3Texts(s3, "nowhere", "lists/", SUFFIX)
    remedy = r"\(no such bucket in this account and region\): NoSuchBucket$"
    asked = (("lists", texts.versions), ("lists/a.ndjson", lambda: texts.read("a.ndjson")))
    for place, ask in asked:
        with pytest.raises(Unavailable, match=rf" s3://nowhere/{place} {remedy}"):
            ask()
