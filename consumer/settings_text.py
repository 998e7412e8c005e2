"""Settings as text: the commented default file, and the effective values to read."""

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import yaml
from pydantic import SecretStr

from consumer.configuration import Configuration
from consumer.settings import SHIPPED, Section, Settings
from consumer.settings_schema import PREFIX, all_keys, section_of

MASK = "***"
"""What stands in the place of a secret."""

_WIDTH = 96
_ADDRESSES = ("redis://", "rediss://", "unix://")

_HEADER = f"""\
The settings of fraudstream, with their defaults.

An environment variable wins over this file: {PREFIX}REDIS__URL sets redis.url. Relative
paths start from this file's folder. `fraudstream config show` prints what is in effect and why.
"""


def render_defaults() -> str:
    """Return the file with every default and its meaning, as ``fraudstream init`` writes it."""
    return "\n".join([*_comment(_HEADER, ""), "", *_render_section(Settings(), "", SHIPPED)])


def _render_section(model: Section, indent: str, folder: Path) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        section = section_of(field)
        if section is None:
            yield from _comment(field.description or "", indent)
            yield indent + _render_value(name, plain(value), folder)
            continue
        yield from _comment(field.description or section.__doc__ or "", indent)
        yield f"{indent}{name}:"
        yield from _render_section(value, f"{indent}  ", folder)
        if not indent:
            yield ""


def _comment(text: str, indent: str) -> Iterator[str]:
    """Render *text* as comment lines, without the markup of docstrings."""
    for line in textwrap.dedent(text.replace("``", "")).strip().splitlines():
        for part in textwrap.wrap(line, _WIDTH - len(indent)) or [""]:
            yield f"{indent}# {part}".rstrip()


def _render_value(name: str, value: object, folder: Path) -> str:
    """Render one key; a file of *folder* by its name alone, as the two travel together."""
    if isinstance(value, str) and Path(value).parent == folder:
        value = Path(value).name
    return f"{name}: {_one_line(value)}"


def effective_values(settings: Settings) -> Mapping[str, object]:
    """Return every value of *settings* by its dotted key, in plain types, secrets masked."""
    values: dict[str, object] = {}
    for key in all_keys():
        content: object = settings
        for part in key.split("."):
            content = getattr(content, part)
        values[key] = plain(content)
    return values


def render_effective(configuration: Configuration) -> str:
    """Return a line a key: name, value with secrets masked, and where the value came from."""
    rows = [
        (key, _one_line(value), configuration.origins[key])
        for key, value in effective_values(configuration.settings).items()
    ]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = min(40, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{k:<{key_width}}  {v:<{value_width}}  {origin}" for k, v, origin in rows)


def _one_line(value: object) -> str:
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return dumped.removesuffix("\n").removesuffix("\n...")


def plain(value: object) -> object:
    """
    Turn *value* into types of YAML and JSON.

    A secret that is an address loses its password, any other is masked whole.
    """
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return mask_url(secret) if secret.startswith(_ADDRESSES) else MASK
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return mask_url(value) if isinstance(value, str) and "://" in value else value


def mask_url(url: str) -> str:
    """
    Replace the password of *url*, in whichever place it stands, by ``MASK``.

    What cannot be taken apart is masked whole.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    user, at, host = parts.netloc.rpartition("@")
    if at and ":" in user:
        user = f"{user.partition(':')[0]}:{MASK}"
    query = [(k, MASK if "pass" in k else v) for k, v in parse_qsl(parts.query)]
    masked = parts._replace(netloc=f"{user}{at}{host}", query=urlencode(query, safe="*"))
    return urlunsplit(masked)


if __name__ == "__main__":
    sys.stdout.write(render_defaults())
