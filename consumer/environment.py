"""
Settings from environment variables, through pydantic-settings.

``FRAUDSTREAM_REDIS__URL`` sets ``redis.url``. Lists are written as JSON. An
empty variable counts as not set, as container platforms cannot leave one out,
and ``null`` sets an optional value to nothing.
"""

import difflib
import json
from collections.abc import Mapping

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from consumer.errors import Problem
from consumer.settings import Settings
from consumer.settings_schema import PREFIX, SEPARATOR, all_keys

# All begin alike, so that names that have nothing else in common are alike by half.
_LIKENESS = 0.8

OTHER_VARIABLES = frozenset({"FRAUDSTREAM_DATA"})
"""Variables with the prefix that are no settings: measuring data of tests and benchmarks."""


class _Sourced(Settings, BaseSettings):  # type: ignore[misc]  # two kinds of model_config
    """The settings as pydantic-settings wants them; only its schema is used."""


class _Source(EnvSettingsSource):
    """Reads from a given mapping, and leaves what is not JSON for validation to refuse."""

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        super().__init__(_Sourced, env_prefix=PREFIX, env_nested_delimiter=SEPARATOR)
        self.env_vars = variables

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: object) -> object:  # noqa: ARG002 - the signature of the base class
        """Decode a list; a value that is not JSON comes back as it is."""
        try:
            return json.loads(str(value))
        except ValueError:
            return value


def read_environment(environment: Mapping[str, str]) -> tuple[Mapping[str, object], list[Problem]]:
    """
    Take the settings from *environment*, as nested mappings.

    With them comes a problem for each variable that has the prefix and names
    no setting: a misspelt one would otherwise be ignored in silence.
    """
    known = {key.variable for key in all_keys().values()}
    ours = {name for name in environment if name.startswith(PREFIX)} - OTHER_VARIABLES
    variables = {
        name.lower(): None if environment[name] == "null" else environment[name]
        for name in sorted(ours & known)
        if environment[name] != ""
    }
    problems = [_unknown(name, sorted(known)) for name in sorted(ours - known)]
    return _Source(variables)(), problems


_OPTIONS = {f"{PREFIX}CONFIG": "the option --config PATH of each command"}
"""What is no setting, though one may well look for it here."""


def _unknown(name: str, known: list[str]) -> Problem:
    if name in _OPTIONS:
        return Problem("environment", name, "a variable that names no setting", _OPTIONS[name])
    close = difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)
    expected = f"{close[0]}?" if close else f"{PREFIX}<section>{SEPARATOR}<key>"
    return Problem("environment", name, "a variable that names no setting", expected)
