"""Large documents are the same JSON as small ones."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from edgeship.serve.documents import Document

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé🙂\n"')
)
VALUES = st.recursive(PLAIN, lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text('a"'), some, max_size=3))


@given(st.dictionaries(st.text('ab"'), VALUES))
def test_a_document_is_told_as_any_other(document: dict[str, object]) -> None:
    assert Document(document).body == JSONResponse(document).body


def test_long_lists_are_whole() -> None:
    choices = [{"index": number} for number in range(300)]
    document = {"tokens": list(range(10_000)), "choices": iter(choices), "none": iter(())}
    response = Document(document)
    assert json.loads(bytes(response.body)) == document | {"choices": choices, "none": []}
    assert response.headers["content-type"] == "application/json"
