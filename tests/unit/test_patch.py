import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Rejected
from consumer.patch import is_object, merge, parse_patch

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=2), values, max_size=4)


def merged(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(objects, objects)
def test_a_patch_does_what_the_rfc_says(target: dict[str, Any], patch: dict[str, Any]) -> None:
    found = merge(json.dumps(target).encode(), json.dumps(patch).encode())
    assert json.loads(found) == merged(target, patch)


def test_what_a_patch_does_not_name_keeps_its_bytes() -> None:
    event = b'{"amount": 12.3400000000000000000001, "card_id": "c", "note": "\\u00e9"}'
    found = merge(event, b'{"card_id": "d"}')
    assert b"12.3400000000000000000001" in found
    assert b'"\\u00e9"' in found


@pytest.mark.parametrize("target", [b"", b"[1]", b'"text"', b'{"a": 1', b"\xff"])
def test_what_is_no_object_cannot_be_patched(target: bytes) -> None:
    assert not is_object(target)
    with pytest.raises(Rejected, match="no JSON object"):
        merge(target, b"{}")


@pytest.mark.parametrize("text", ["", "currency=EUR", "[]", "null"])
def test_a_patch_is_an_object(text: str) -> None:
    with pytest.raises(ValueError, match="expected a JSON object"):
        parse_patch(text)
