"""The server's name in a ClientHello."""

from __future__ import annotations

import ssl

import pytest
from agentd_executor_native.network.client_hello import (
    TlsSyntaxError,
    hello_length,
    record_length,
    server_name,
)
from hypothesis import given, strategies as st


def real_hello(name: str | None) -> bytes:
    """Return the handshake message, without the record around it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    record = outgoing.read()
    assert record_length(record[:5]) == len(record) - 5
    assert hello_length(record[5:9]) == len(record) - 5
    return record[5:]


HELLO = real_hello("good.example")


def made_hello(*extensions: tuple[int, bytes], behind: bytes = b"") -> bytes:
    """Return a minimal hello with these extensions."""
    parts = b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions)
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\1") + vector(1, b"\0")
    body += (vector(2, parts) if extensions else b"") + behind
    return b"\1" + len(body).to_bytes(3, "big") + body


def vector(size: int, data: bytes) -> bytes:
    """Return data with its length before it."""
    return len(data).to_bytes(size, "big") + data


def names(*given: bytes, kind: int = 0) -> bytes:
    """Return the body of the extension server_name."""
    return vector(2, b"".join(bytes([kind]) + vector(2, name) for name in given))


def test_the_name_of_a_real_client_is_found() -> None:
    assert server_name(HELLO) == "good.example"


def test_a_real_client_may_give_none() -> None:
    assert server_name(real_hello(None)) is None


@pytest.mark.parametrize(
    ("hello", "found"),
    [
        (made_hello((0, names(b"a.example"))), "a.example"),
        (made_hello((43, b"\2\3\4"), (0, names(b"a.example"))), "a.example"),
        (made_hello((0xFE0D, bytes(64)), (0, names(b"outer.example"))), "outer.example"),  # ECH
        (made_hello((43, b"\2\3\4")), None),
        (made_hello(), None),
    ],
)
def test_the_outer_name_counts(hello: bytes, found: str | None) -> None:
    assert server_name(hello) == found


@pytest.mark.parametrize(
    "hello",
    [
        made_hello((0, names(b"a.example")), (0, names(b"b.example"))),
        made_hello((0, names(b"a.example", b"b.example"))),
        made_hello((0, names(b"a.example") + b"\0")),
        made_hello((0, names())),
        made_hello((0, b"")),
        made_hello((0, names(b"a.example", kind=1))),
        made_hello((0, names("ä.example".encode()))),
        made_hello((0, names(b"a.example")), behind=b"x"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(hello: bytes) -> None:
    with pytest.raises(TlsSyntaxError):
        server_name(hello)


@given(st.integers(0, len(HELLO) - 1))
def test_a_hello_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(TlsSyntaxError):
        server_name(HELLO[:size])


@given(st.binary(max_size=200) | st.lists(st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255))))
def test_any_bytes_are_a_name_or_an_error(given: bytes | list[tuple[int, int]]) -> None:
    damaged = bytearray(HELLO)
    if isinstance(given, bytes):
        damaged = bytearray(given)
    else:
        for at, value in given:
            damaged[at] = value
    try:
        found = server_name(bytes(damaged))
    except TlsSyntaxError:
        return
    assert found is None or found.isascii()


@pytest.mark.parametrize(
    "header", [b"\x17\3\1\0\5", b"\x16\2\1\0\5", b"\x16\3\1\0\0", b"\x16\3\1\x40\1", b"GET /"]
)
def test_other_records_are_refused(header: bytes) -> None:
    with pytest.raises(TlsSyntaxError):
        record_length(header)


@pytest.mark.parametrize("start", [b"\2\0\0\5", b"\1\1\0\0"])
def test_other_messages_and_huge_ones_are_refused(start: bytes) -> None:
    with pytest.raises(TlsSyntaxError):
        hello_length(start)
