"""The settings as text: the default file in step with the schema, no secret in what is shown."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from consumer.configuration import load
from consumer.settings import SHIPPED, Settings
from consumer.settings_schema import all_keys
from consumer.settings_text import (
    effective_values,
    mask_url,
    plain,
    render_defaults,
    render_effective,
)


def test_the_shipped_file_is_what_the_schema_renders() -> None:
    """After a change of the schema: python -m consumer.settings_text > config/fraudstream.yaml."""
    assert (SHIPPED / "fraudstream.yaml").read_text(encoding="utf-8") == render_defaults()


def test_the_shipped_file_sets_every_key_to_its_default() -> None:
    configuration = load(SHIPPED / "fraudstream.yaml", {})

    assert configuration.settings.model_dump() == Settings().model_dump()
    assert all(":" in origin for origin in configuration.origins.values())


def test_no_line_of_the_shipped_file_is_too_long_to_read() -> None:
    assert max(len(line) for line in render_defaults().splitlines()) <= 100


def test_every_key_has_a_description() -> None:
    assert [key.name for key in all_keys().values() if not key.description] == []


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("rediss://me:hunter2@cache", "rediss://me:***@cache"),
        ("redis://me:hunt@er2@cache", "redis://me:***@cache"),
        ("redis://cache?password=hunter2&db=1", "redis://cache?password=***&db=1"),
        ("redis://[hunter2", "***"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_nothing_that_is_shown_holds_a_secret() -> None:
    configuration = load(
        environment={
            "FRAUDSTREAM_REDIS__URL": "redis://me:hunter2@cache:6379",
            "FRAUDSTREAM_REDIS__DOCUMENTS_URL": "redis://cache?password=hunter2",
            "FRAUDSTREAM_AWS__ENDPOINT_URL": "http://me:hunter2@localhost:4566",
        }
    )

    shown = [
        render_effective(configuration),
        str(effective_values(configuration.settings)),
        repr(configuration.settings.redis),
    ]

    assert not any("hunter2" in text for text in shown)
    assert "redis://me:***@cache:6379" in shown[0]


def test_each_value_is_shown_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kcl:\n  java_options: [-Xmx1g, '-Da=b']\n", encoding="utf-8")

    lines = render_effective(load(path, {})).splitlines()

    (line,) = [line for line in lines if line.startswith("kcl.java_options")]
    assert line.split("  ", 1)[1].strip().startswith("[-Xmx1g, -Da=b]")
    assert line.endswith(f"  {path}:2")


def test_a_secret_that_is_no_address_is_masked_whole() -> None:
    for keys in ("2026b:" + "ab" * 32, "2026b://" + "ab" * 32):
        assert plain(SecretStr(keys)) == "***"
