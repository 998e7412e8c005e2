"""
JSON Merge Patch (RFC 7386) on the text of an event, to mend what a producer got wrong.

What the patch does not name keeps its bytes: an amount of 20 digits is still one.
"""

import msgspec

from consumer.errors import Rejected

_Object = dict[str, msgspec.Raw]


def parse_patch(text: str) -> bytes:
    """Return *text* as a patch: one JSON object. Raises ValueError saying so."""
    data = text.encode()
    if _object(data) is None:
        message = 'expected a JSON object, such as {"currency": "EUR"}'
        raise ValueError(message)
    return data


def merge(target: bytes, patch: bytes) -> bytes:
    """
    Apply *patch* to the event *target*: null removes a field, anything else replaces it.

    Raises Rejected (``not_patchable``) for an event that is no JSON object.
    """
    fields = _object(target)
    if fields is None:
        raise Rejected("not_patchable", "the payload is no JSON object, so no field can be mended")
    for name, value in (_object(patch) or {}).items():
        raw = bytes(value)
        if raw == b"null":
            fields.pop(name, None)
        elif _object(raw) is None:
            fields[name] = value
        else:
            inner = bytes(fields.get(name, b"{}"))
            fields[name] = msgspec.Raw(merge(b"{}" if _object(inner) is None else inner, raw))
    return msgspec.json.encode(fields)


def is_object(data: bytes) -> bool:
    """Whether *data* is one JSON object."""
    return _object(data) is not None


def _object(data: bytes) -> _Object | None:
    try:
        return msgspec.json.decode(data, type=_Object)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
