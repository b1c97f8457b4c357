"""Rows about schemas and tools that explode, bodies that are no JSON, HTTP that is none, and clients that misbehave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.validate.edges.looks import is_json, is_value
from edgeship.validate.edges.row import (
    ANSWERED,
    ANY_END,
    CHATS,
    EITHER,
    OVER_HTTP,
    REFUSED,
    Asked,
    Crowd,
    Expect,
    Known,
    Left,
    Look,
    Row,
    Sent,
    Surface,
    refused,
)
from edgeship.validate.edges.texts import QUESTION, said

_SIGNS = "Grüße 你好 👩🏽‍🚀"
_DEEP = 10_000
_ONE: tuple[Surface, ...] = ("chat",)
_ENTRIES: tuple[Surface, ...] = ("chat", "messages", "ollama")
_CLOSED = Expect(answered=True, refused=True, closed=True)
_REFUSED_OR_CLOSED = Expect(refused=True, closed=True)
_MALFORMED = refused(400)
_FULL = Expect(answered=True, also=(429, 503))
_QUESTION = b'{"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0'


def _schema(schema: Any, **settings: Any) -> dict[str, Any]:
    wrapped = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    return said(QUESTION, response_format=wrapped, max_tokens=64, **settings)


def _nested(depth: int) -> Any:
    found: Any = {"type": "string"}
    for _ in range(depth):
        found = {"type": "object", "properties": {"a": found}, "required": ["a"]}
    return found


def _held(
    row: str,
    told: str,
    body: Mapping[str, Any],
    own: Expect = REFUSED,
    *looks: Look,
    surfaces: tuple[Surface, ...] = CHATS,
    quick: bool = False,
) -> Row:
    return Row(
        f"held-{row}", "constraints", told, Asked(body), EITHER, own, surfaces=surfaces, looks=looks, quick=quick
    )


def _regex(row: str, told: str, regex: str, own: Expect = REFUSED) -> Row:
    """guided_regex is vLLM's word; servers that do not know it answer freely."""
    return _held(row, told, said(QUESTION, guided_regex=regex, max_tokens=16), own)


def _tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


_REPEATED = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
_WIDE = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(20_000)}}
_COUNTED = {"type": "array", "items": {"type": "integer"}, "minItems": 10**9, "maxItems": 10**9}
_CHOICES = {"anyOf": [{"type": "object", "properties": {f"k{n}": {"enum": [n]}}} for n in range(1000)]}

CONSTRAINTS: Sequence[Row] = (
    _held(
        "const",
        "a schema of one value, with signs of four bytes",
        _schema({"const": _SIGNS}),
        ANSWERED,
        is_value(_SIGNS),
        quick=True,
    ),
    _held(
        "object",
        "a schema of a flat object",
        _schema(
            {
                "type": "object",
                "properties": {"a": {"type": "boolean"}},
                "required": ["a"],
                "additionalProperties": False,
            }
        ),
        ANSWERED,
        is_json,
    ),
    _held("number", "a schema of a number, whose digits might not end", _schema({"type": "number"}), ANSWERED, is_json),
    _held("endless-ref", "a schema that is only itself", _schema(_REPEATED), quick=True),
    _held("deep", "a schema of 150 levels", _schema(_nested(150))),
    _held("wide", "a schema of 20,000 fields", _schema(_WIDE)),
    _held("counted", "a list of a billion numbers", _schema(_COUNTED), EITHER),
    _held("choices", "a schema of 1,000 alternatives", _schema(_CHOICES), EITHER),
    _held("nonsense", "a schema of a type that there is not", _schema({"type": "nonsense"})),
    _held("false", "a schema that nothing fits", _schema(False)),
    _held("text", "a schema that is a text and no JSON", _schema("{")),
    _held("remote", "a schema that lies elsewhere", _schema({"$ref": "http://localhost:1/schema.json"})),
    _held("file", "a schema that lies on the server's disk", _schema({"$ref": "file:///etc/passwd"})),
    _regex("regex-broken", "a regular expression that is none", "("),
    _regex("regex-exploding", "a regular expression that explodes when it is read", "(a|aa|aaa){1000,100000}"),
    _regex("regex-slow", "a regular expression that backtracks for ever in some engines", "(a+)+b", ANSWERED),
    _regex("regex-long", "a regular expression of 300,000 letters", "x" * 300_000),
    _held(
        "grammar",
        "a grammar that is endless to its left",
        said(QUESTION, guided_grammar='root ::= root "a"'),
        surfaces=OVER_HTTP,
    ),
    _held("tools-many", "1,000 tools", said(QUESTION, tools=[_tool(f"f{n}") for n in range(1000)]), EITHER),
    _held(
        "tools-long",
        "a tool whose description has 500,000 letters",
        said(QUESTION, tools=[_tool("f", description="x" * 500_000)]),
        EITHER,
    ),
    _held("tools-same", "two tools of one name", said(QUESTION, tools=[_tool("f"), _tool("f")])),
    _held("tools-name", "a tool whose name is a control token", said(QUESTION, tools=[_tool("<|im_end|>")]), EITHER),
    _held(
        "tools-parameters",
        "a tool whose parameters are no schema",
        said(QUESTION, tools=[_tool("f", parameters={"type": 1})], tool_choice="required"),
        EITHER,
    ),
    _held(
        "tools-choice",
        "a tool that must be called, and is none",
        said(QUESTION, tools=[_tool("f")], tool_choice={"type": "function", "function": {"name": "g"}}),
    ),
    _held("tools-none", "a call is required, and there is no tool", said(QUESTION, tool_choice="required")),
)


def _body(
    row: str,
    told: str,
    body: bytes,
    own: Expect | None = _MALFORMED,
    *,
    must: Expect = EITHER,
    surfaces: tuple[Surface, ...] = _ONE,
    quick: bool = False,
    **more: Any,
) -> Row:
    return Row(f"body-{row}", "bodies", told, Sent(body, **more), must, own, surfaces=surfaces, quick=quick)


def _deep(opened: bytes, closed: bytes) -> bytes:
    return _QUESTION + b', "x": ' + opened * _DEEP + b"1" + closed * _DEEP + b"}"


BODIES: Sequence[Row] = (
    _body("nothing", "a body of no bytes", b"", REFUSED, must=REFUSED, surfaces=_ENTRIES, quick=True),
    _body("no-json", "a body that is no JSON", b"hello", must=REFUSED, surfaces=_ENTRIES, quick=True),
    _body("cut", "JSON that stops half way", _QUESTION, must=REFUSED, surfaces=_ENTRIES),
    _body("list", "a list instead of an object", b"[" + _QUESTION + b"}]", must=REFUSED),
    _body("text", "a text instead of an object", b'"Hello"', must=REFUSED),
    _body("null", "null instead of an object", b"null", must=REFUSED),
    _body("number", "a number instead of an object", b"1e400"),
    _body("trailing", "more after the JSON's end", _QUESTION + b"} and more"),
    _body("two", "two objects after each other", _QUESTION + b"}" + _QUESTION + b"}"),
    _body("comment", "JSON with comments and a last comma", _QUESTION + b", /* x */ // y\n}"),
    _body("quotes", "single quotes", b"{'model': MODEL, 'messages': []}", must=REFUSED),
    _body("twice", "the same key twice", _QUESTION + b', "max_tokens": 4}'),
    _body(
        "keys-many",
        "200,000 keys",
        _QUESTION + b"".join(b', "k%d": 1' % n for n in range(200_000)) + b"}",
        refused(400, 413),
    ),
    _body("bytes", "bytes that are no UTF-8", _QUESTION.replace(b"Hello", b"Hel\xff\xfe\xc0\x80lo") + b"}", quick=True),
    _body("latin", "a text in Latin-1", _QUESTION.replace(b"Hello", "Grüße".encode("latin-1")) + b"}"),
    _body("utf-16", "JSON in UTF-16", (_QUESTION + b"}").decode().encode("utf-16")),
    _body(
        "surrogate-bytes", "half a surrogate pair in UTF-8's way", _QUESTION.replace(b"Hello", b"a\xed\xa0\xbdb") + b"}"
    ),
    _body("bom", "a byte order mark before the JSON", b"\xef\xbb\xbf" + _QUESTION + b"}"),
    _body("nul", "a NUL as it is, in a text", _QUESTION.replace(b"Hello", b"a\0b") + b"}"),
    _body("nan", "NaN as Python writes it", _QUESTION + b', "top_p": NaN}'),
    _body("digits", "a number of 10,000 digits", _QUESTION + b', "seed": ' + b"9" * 10_000 + b"}"),
    _body("deep-lists", f"lists nested {_DEEP:,} deep", _deep(b"[", b"]"), quick=True),
    _body("deep-objects", f"objects nested {_DEEP:,} deep", _deep(b'{"a":', b"}")),
    _body("deep-open", "100,000 lists that never close", _QUESTION + b', "x": ' + b"[" * 100_000, refused(400, 413)),
    _body("type-text", "JSON that calls itself text", _QUESTION + b"}", ANSWERED, content_type="text/plain"),
    _body(
        "type-form",
        "JSON that calls itself a form",
        _QUESTION + b"}",
        ANSWERED,
        content_type="application/x-www-form-urlencoded",
    ),
    _body("type-none", "JSON without a type", _QUESTION + b"}", ANSWERED, content_type=None),
    _body(
        "type-charset",
        "JSON that claims an odd encoding",
        _QUESTION + b"}",
        ANSWERED,
        content_type="application/json; charset=utf-7",
    ),
    _body(
        "large",
        "a body of 6 MB",
        _QUESTION + b" " * (6 << 20) + b"}",
        Expect(refused=True, statuses=(413,), closed=True),
        must=_CLOSED,
    ),
)


def _wire(
    row: str,
    told: str,
    own: Expect | None = None,
    *,
    must: Expect = ANY_END,
    surfaces: tuple[Surface, ...] = _ONE,
    quick: bool = False,
    spoken: bool = False,
    **sent: Any,
) -> Row:
    return Row(f"wire-{row}", "wire", told, Sent(**sent, spoken=spoken), must, own, surfaces=surfaces, quick=quick)


_CHUNKED = "Transfer-Encoding: chunked"
_POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: HOST\r\n"

WIRE: Sequence[Row] = (
    _wire(
        "get",
        "GET where POST is taken",
        refused(405),
        surfaces=_ENTRIES,
        method="GET",
        body=b"",
        length=None,
        spoken=True,
        quick=True,
    ),
    _wire("delete", "DELETE where POST is taken", refused(405), method="DELETE", body=b"", spoken=True),
    _wire("method", "a method that there is not", refused(400, 405), method="FETCH", body=b""),
    _wire("path", "a path that there is not", refused(404), path="/v1/no/such/place", spoken=True, quick=True),
    _wire(
        "path-up", "a path that leads out", refused(400, 404), path="/v1/../../../etc/passwd", method="GET", body=b""
    ),
    _wire(
        "path-encoded",
        "a path that leads out, encoded",
        refused(400, 404),
        path="/%2e%2e/%2e%2e/etc/passwd%00",
        method="GET",
        body=b"",
    ),
    _wire(
        "path-long",
        "a path of 20,000 letters",
        Expect(refused=True, closed=True),
        path="/" + "a" * 20_000,
        method="GET",
        body=b"",
    ),
    _wire("query", "a query of odd parts", EITHER, path="/v1/models?a=%ff&b[]=%00&&==&c", method="GET", body=b""),
    _wire(
        "headers-large", "a header of 200 kB", _REFUSED_OR_CLOSED, headers=("X-Large: " + "x" * 200_000,), quick=True
    ),
    _wire("headers-many", "5,000 headers", _CLOSED, headers=tuple(f"X-{n}: {n}" for n in range(5000))),
    _wire("header-odd", "a header with bytes that are no text", EITHER, headers=("X-Odd: \xff\xfe\x80",)),
    _wire("length-text", "a length in words", _REFUSED_OR_CLOSED, length="many"),
    _wire("length-negative", "a negative length", _REFUSED_OR_CLOSED, length="-1"),
    _wire(
        "length-huge",
        "a length of 100 GB, of which nothing comes",
        _REFUSED_OR_CLOSED,
        length=str(100 << 30),
        body=b"{",
        must=Expect(answered=True, refused=True, closed=True),
        then="hold",
    ),
    _wire("length-twice", "two lengths that differ", _REFUSED_OR_CLOSED, headers=("Content-Length: 3",)),
    _wire("length-short", "a body longer than its length says", _REFUSED_OR_CLOSED, length="10"),
    _wire("both", "a length and chunks, as who smuggles requests sends them", _REFUSED_OR_CLOSED, headers=(_CHUNKED,)),
    _wire(
        "chunks-odd",
        "chunks that are none",
        _REFUSED_OR_CLOSED,
        headers=(_CHUNKED,),
        length=None,
        body=b"zz\r\nnonsense\r\n",
    ),
    _wire(
        "chunks-huge",
        "a chunk of 2^64 bytes",
        _REFUSED_OR_CLOSED,
        headers=(_CHUNKED,),
        length=None,
        body=b"ffffffffffffffff\r\n{\r\n0\r\n\r\n",
        then="hold",
    ),
    _wire("version", "a version of HTTP that there is not", version="HTTP/9.9"),
    _wire("no-host", "no host", whole=b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n"),
    _wire("old", "HTTP 1.0", ANSWERED, must=_CLOSED, version="HTTP/1.0"),
    _wire(
        "tls",
        "the beginning of TLS",
        _REFUSED_OR_CLOSED,
        whole=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    ),
    _wire("nuls", "100 NULs", _REFUSED_OR_CLOSED, whole=b"\0" * 100 + b"\r\n\r\n"),
    _wire("no-http", "200,000 letters that are no HTTP", _REFUSED_OR_CLOSED, whole=b"A" * 200_000, quick=True),
    _wire("feeds", "line feeds without returns", whole=b"GET /v1/models HTTP/1.1\nHost: HOST\nConnection: close\n\n"),
    _wire("header-split", "a header that holds another request", EITHER, headers=("X-A: b\rX-B: c",), must=ANY_END),
    _wire(
        "expect", "a client that waits to be told to go on", ANSWERED, must=_CLOSED, headers=("Expect: 100-continue",)
    ),
)


def _client(
    row: str,
    told: str,
    asks: Any,
    surfaces: tuple[Surface, ...],
    must: Expect = EITHER,
    *,
    own: Expect | None = None,
    quick: bool = False,
) -> Row:
    return Row(f"client-{row}", "clients", told, asks, must, own, surfaces=surfaces, quick=quick)


def _long(_: Known) -> Mapping[str, Any]:
    return said(QUESTION, max_tokens=512)


_INSIDE: tuple[Surface, ...] = ("inside",)
_LEFT = Expect(answered=True, refused=True, closed=True)

CLIENTS: Sequence[Row] = (
    _client(
        "midway",
        "a client that leaves after the first piece of a long answer",
        Asked(_long, leaves=True),
        CHATS,
        ANSWERED,
        quick=True,
    ),
    _client("gone", "a client that has gone before its answer", Sent(then="leave"), OVER_HTTP, _LEFT, quick=True),
    _client(
        "half-body",
        "a client that goes with half of its body sent",
        Sent(_QUESTION, length="5000", then="leave"),
        _ONE,
        _LEFT,
    ),
    _client(
        "half-head",
        "a client that goes within the headers",
        Sent(whole=_POST + b"Content-Le", then="leave"),
        _ONE,
        _LEFT,
    ),
    _client(
        "silent", "a client that connects and says nothing, while others ask", Sent(whole=b"", then="hold"), _ONE, _LEFT
    ),
    _client(
        "slow-body",
        "chunks that never end, while others ask",
        Sent(b"400\r\n" + _QUESTION, length=None, headers=(_CHUNKED,), then="hold"),
        _ONE,
        _LEFT,
        quick=True,
    ),
    _client(
        "deaf", "a client that reads nothing of its answer, while others ask", Sent(then="hold"), ("stream",), _LEFT
    ),
    _client("closed", "an answer in process that nobody hears to its end", Left("closed"), _INSIDE, ANSWERED),
    _client("cancelled", "an answer in process that is cancelled", Left("cancelled"), _INSIDE, ANSWERED, quick=True),
    _client("late", "an answer in process past its deadline", Left("late"), _INSIDE, ANSWERED),
    _client("fifty", "50 questions at the same time: each gets its own answer", Crowd(50), CHATS, _FULL),
)
