"""
Where settings come from: defaults, then a file, then environment variables.

Everything wrong is reported at once, so that a new installation is corrected in
one round instead of one round a mistake.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from consumer.contradictions import find_contradictions
from consumer.environment import read_environment
from consumer.errors import Misconfigured, Problem
from consumer.settings import Section, Settings
from consumer.settings_file import SettingsFile, read_settings_file
from consumer.settings_schema import all_keys, section_of

DEFAULT_PATHS = (Path("config/fraudstream.yaml"), Path("/etc/fraudstream/fraudstream.yaml"))
"""Where the settings file is looked for, first one first, when none is named."""

DEFAULT = "default"
"""The origin of a value that nobody set."""

_HIDDEN = "a value that is not shown"

# pydantic's words where an operator needs others.
_EXPECTED = {"tuple_type": 'a list, such as ["a", "b"]', "path_type": "a path"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    The effective settings and where they came from.

    ``origins`` says for every dotted key ``default``, ``<file>:<line>`` or
    ``environment variable <NAME>``; ``path`` is the file that was read, if any.
    """

    settings: Settings
    origins: Mapping[str, str]
    path: Path | None

    def locate(self, problem: Problem) -> Problem:
        """*problem* of a setting with the place the setting comes from; others as they are."""
        origin = self.origins.get(problem.key, DEFAULT)
        if origin == DEFAULT:
            return problem
        return Problem(origin, problem.key, problem.found, problem.expected)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that somebody set, and where."""

    content: object
    origin: str


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Configuration:
    """
    Read the settings from *path* and, winning over it, *environment*.

    By default these are the first of ``DEFAULT_PATHS`` that exists, if any, and
    the process's environment. Raises Misconfigured with every problem of both.
    """
    problems: list[Problem] = []
    given: dict[str, _Value] = {}
    found = path or next((known for known in DEFAULT_PATHS if known.is_file()), None)
    if found is not None:
        file = read_settings_file(found)
        problems.extend(file.problems)
        given.update(_from_file(file, problems))
    given.update(_from_environment(os.environ if environment is None else environment, problems))
    settings = _build(given, problems)
    if problems:
        raise Misconfigured(problems)
    origins = {key: given[key].origin if key in given else DEFAULT for key in all_keys()}
    return Configuration(settings, origins, found)


def _from_file(file: SettingsFile, problems: list[Problem]) -> Iterator[tuple[str, _Value]]:
    """Yield the values of *file*, its paths made relative to its folder."""
    folder = file.path.absolute().parent
    for key, content in _flatten(file, file.values, Settings, "", problems):
        is_path = (
            all_keys()[key].path and isinstance(content, str) and not content.startswith("s3://")
        )
        value = str(folder / content) if is_path and isinstance(content, str) else content
        yield key, _Value(value, _place(file, key))


def _place(file: SettingsFile, key: str) -> str:
    return f"{file.path}:{file.lines[key]}" if key in file.lines else str(file.path)


def _flatten(
    file: SettingsFile,
    values: Mapping[str, object],
    model: type[Section],
    prefix: str,
    problems: list[Problem],
) -> Iterator[tuple[str, object]]:
    """Yield every value below *values* by its key; what fits no section is a problem."""
    for name, content in values.items():
        key = f"{prefix}{name}"
        field = model.model_fields.get(name)
        section = None if field is None else section_of(field)
        if field is None:
            expected = _suggest(str(name), key, prefix, model)
            problems.append(Problem(_place(file, key), key, "an unknown key", expected))
        elif section is None:
            yield key, content
        elif isinstance(content, Mapping):
            yield from _flatten(file, content, section, f"{key}.", problems)
        elif content is not None:  # a section whose keys are all commented out is empty
            expected = f"a section with {', '.join(section.model_fields)}"
            problems.append(Problem(_place(file, key), key, _show(key, content), expected))


def _suggest(name: str, key: str, prefix: str, model: type[Section]) -> str:
    """Name what *key* may have meant: a neighbour, else the same name elsewhere."""
    if close := difflib.get_close_matches(name, model.model_fields, n=1):
        return f"{prefix}{close[0]}?"
    elsewhere = [known for known in all_keys() if known.split(".")[-1] == name]
    if elsewhere or (elsewhere := difflib.get_close_matches(key, all_keys(), n=1)):
        return f"{' or '.join(elsewhere)}?"
    return f"one of {', '.join(model.model_fields)}"


def _from_environment(
    environment: Mapping[str, str], problems: list[Problem]
) -> Iterator[tuple[str, _Value]]:
    values, unknown = read_environment(environment)
    problems.extend(unknown)
    for key in all_keys().values():
        content: object = values
        for part in key.name.split("."):
            if not isinstance(content, Mapping) or part not in content:
                break
            content = content[part]
        else:
            yield key.name, _Value(content, f"environment variable {key.variable}")


def _build(given: Mapping[str, _Value], problems: list[Problem]) -> Settings:
    """
    Validate *given* over the defaults, adding to *problems*.

    Values that are wrong by themselves give way to their defaults, so that the
    others are still held against each other.
    """
    good = dict(given)
    try:
        settings = _validate(good)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            key = _key_of(detail)
            origin = given[key].origin if key in given else DEFAULT
            problems.append(Problem(origin, key, _show(key, detail["input"]), _expected(detail)))
            good.pop(key, None)
        settings = _validate(good)
    for contradiction in find_contradictions(settings):
        keys = (contradiction.key, *contradiction.others)
        # One with a value that gave way says nothing about what was written.
        if all(key in good or key not in given for key in keys):
            origin = next((given[key].origin for key in keys if key in given), DEFAULT)
            found, expected = contradiction.found, contradiction.expected
            problems.append(Problem(origin, contradiction.key, found, expected))
    return settings


def _validate(given: Mapping[str, _Value]) -> Settings:
    values: MutableMapping[str, object] = Settings().model_dump()
    for key, value in given.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            inner = section[part]
            assert isinstance(inner, dict), "a section of the schema"
            section = inner
        section[name] = value.content
    return Settings.model_validate(values)


def _key_of(detail: ErrorDetails) -> str:
    """Find the setting an error belongs to; what lies deeper is a place in its value."""
    key = ""
    for part in detail["loc"]:
        key = f"{key}.{part}" if key else str(part)
        if key in all_keys():
            break
    return key


def _expected(detail: ErrorDetails) -> str:
    """Take what pydantic says of the right value, without its usual beginning."""
    if detail["type"] in _EXPECTED:
        return _EXPECTED[detail["type"]]
    message = re.sub(r"^(Value error, |(Input|String|Value) should (be )?)", "", detail["msg"])
    return message[:1].lower() + message[1:]


def _show(key: str, content: object) -> str:
    """Show *content* in a message: never a secret, never the password in an address."""
    known = all_keys().get(key)
    if isinstance(content, Mapping) or known is None or known.secret:
        return "a section" if isinstance(content, Mapping) else _HIDDEN
    if content is None:
        return "nothing"
    return re.sub(r"(://)[^/@]*@", r"\1***@", repr(content))
