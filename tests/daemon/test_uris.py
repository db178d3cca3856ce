"""URIs of subscriptions."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from agentd.errors import ConfigError
from agentd_daemon.uris import parse_tool_uri, safe_uri, uri_scheme
from hypothesis import given, strategies as st


@pytest.mark.parametrize(
    ("uri", "tool", "arguments"),
    [
        ("tool://fetch/?url=https://example.com/api/data", "fetch", {"url": "https://example.com/api/data"}),
        ("tool://fetch?url=x&max_length=5", "fetch", {"url": "x", "max_length": "5"}),
        ("tool://read_graph/", "read_graph", {}),
        ("tool://read_graph", "read_graph", {}),
        ("tool://getTime/", "getTime", {}),
        ("TOOL://x/?a=", "x", {"a": ""}),
        ("tool://x/?a=1&a=2&a=3", "x", {"a": ["1", "2", "3"]}),
        ("tool://x/?u=http://h/?b%3D1%26c=2", "x", {"u": "http://h/?b=1&c=2"}),
        ("tool://x/?q=a+b%20c%2B", "x", {"q": "a b c+"}),
        ("tool://server%2Ftool/", "server/tool", {}),
        ("tool://a:b/", "a:b", {}),
    ],
)
def test_a_tool_uri_is_a_tool_and_its_arguments(uri: str, tool: str, arguments: dict[str, object]) -> None:
    assert parse_tool_uri(uri) == (tool, arguments)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:///x", "must look like tool://NAME"),
        ("fetch", "must look like tool://NAME"),
        ("tool:fetch", "names no tool"),
        ("tool:///?a=1", "names no tool"),
        ("tool://x/path?a=1", "has a path, '/path'"),
        ("tool://x/?a", "has no '='"),
        ("tool://x/?a=1&", "has no '='"),
        ("tool://x/?=1", "has no name"),
        ("tool://x/?a=%FF", "no text in UTF-8"),
        ("tool://x/?a=1#b", "write %23"),
        ("tool://[x/", "is no URI"),
    ],
)
def test_what_is_no_tool_uri_is_refused(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_tool_uri(uri)


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(min_size=1), st.text() | st.lists(st.text(), min_size=2), max_size=4),
)
def test_what_is_encoded_comes_out_again(tool: str, arguments: dict[str, str | list[str]]) -> None:
    try:
        uri = f"tool://{quote(tool, safe='')}/?{urlencode(arguments, doseq=True)}".rstrip("?")
    except UnicodeEncodeError:  # lone surrogates have no encoding
        return
    assert parse_tool_uri(uri) == (tool, arguments)


@given(st.text() | st.text(alphabet="tol:/?&=%#[]@ab").map("tool://{}".format))
def test_any_text_is_parsed_or_refused(uri: str) -> None:
    try:
        tool, _ = parse_tool_uri(uri)
    except ConfigError:
        return
    assert tool
    assert uri_scheme(uri) in ("tool", "")


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("file:///x", "file"), ("HTTP://h", "http"), ("a+b.c-1:x", "a+b.c-1"), ("urn:x:y", "urn"),
        ("x", ""), ("/x", ""), ("1a:b", ""), ("a:", ""), ("a://", ""), ("a: b", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_uri_has_a_scheme_and_something_behind_it(uri: str, scheme: str) -> None:
    assert uri_scheme(uri) == scheme


def test_a_uri_is_shown_without_what_may_be_secret() -> None:
    assert safe_uri("https://user:pw@host/a?key=1#f") == "https://host/a?..."
    assert safe_uri("file:///a") == "file:///a"
