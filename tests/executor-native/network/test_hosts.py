"""Names and addresses: each spelling is the host that it means, or none."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from agentd_executor_native.network.addresses import is_closed, is_public
from agentd_executor_native.network.hosts import HostSyntaxError, host_and_port, read_authority, read_host
from hypothesis import given, strategies as st

LOOPBACK = IPv4Address("127.0.0.1")

SPELLINGS = {
    "Example.COM": "example.com",
    "example.com.": "example.com",
    "EXAMPLE.com.": "example.com",
    "bücher.example": "xn--bcher-kva.example",
    "BÜCHER.example": "xn--bcher-kva.example",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "ｅｘａｍｐｌｅ.com": "example.com",
    "example。com": "example.com",
    "r3---sn-abc.example": "r3---sn-abc.example",
    "_service.example.com": "_service.example.com",
    "0xg.example": "0xg.example",
    "127.0.0.1": LOOPBACK,
    "127.0.0.1.": LOOPBACK,
    "127.1": LOOPBACK,
    "127.0.1": LOOPBACK,
    "2130706433": LOOPBACK,
    "017700000001": LOOPBACK,
    "0177.0.0.1": LOOPBACK,
    "0x7f.0.0.1": LOOPBACK,
    "0X7F000001": LOOPBACK,
    "0x7f.1": LOOPBACK,
    "１２７.0.0.1": LOOPBACK,
    "127。0。0。1": LOOPBACK,
    "0": IPv4Address("0.0.0.0"),
    "0x": IPv4Address("0.0.0.0"),
    "::ffff:127.0.0.1": LOOPBACK,
    "[::ffff:7f00:1]": LOOPBACK,
    "[::127.0.0.1]": LOOPBACK,
    "[64:ff9b::7f00:1]": LOOPBACK,
    "[2002:7f00:1::]": LOOPBACK,
    "[0:0:0:0:0:0:0:1]": IPv6Address("::1"),
    "::1": IPv6Address("::1"),
    "[FD12::5]": IPv6Address("fd12::5"),
}

REFUSED = [
    *(
        "",
        ".",
        "..",
        "a..b",
        ".example.com",
        "example.com..",
        "-a.example",
        "a-.example",
        "a" * 64 + ".example",
    ),
    *("example.com\0.good.example", "good.example\0", "a b.example", " example.com", "example.com\n", "a\tb"),
    *(
        "user@example.com",
        "a%2eb.example",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a:b",
        "a,b",
        "*.example.com",
        "a\x7fb",
    ),
    *(
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "127.0.0.08",
        "4294967296",
        "0x100000000",
        "1..2",
        "foo.1",
        "a.0x1",
    ),
    *("[fe80::1%eth0]", "fe80::1%1", "[::1", "::1]", "[]", "[example.com]", "[127.0.0.1]", ":::", "1::2::3"),
    *("a." * 126 + "ab", "xn--" + "é", "a\u200bb.example\u0000", "\udc80.example"),
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_is_read_as_the_host_that_it_means(text: str) -> None:
    assert read_host(text) == SPELLINGS[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(HostSyntaxError):
        read_host(text)


def test_a_name_may_have_253_characters_and_a_dot_behind_them() -> None:
    longest = "a." * 126 + "a"
    assert read_host(longest) == read_host(longest + ".") == longest


@given(st.text(max_size=300) | st.text("0123456789abxABX.:[]%-", max_size=40))
def test_any_text_is_a_canonical_host_or_none(text: str) -> None:
    try:
        host = read_host(text)
    except HostSyntaxError:
        return
    assert read_host(str(host)) == host
    if isinstance(host, str):
        assert host == host.lower()
        assert not set(host) - set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        with pytest.raises(ValueError, match="does not appear"):
            ip_address(host)


@given(st.data(), st.integers(0, 2**32 - 1))
def test_any_spelling_of_an_ipv4_address_is_that_address(data: st.DataObject, number: int) -> None:
    parts = data.draw(st.integers(1, 4))
    numbers = [number >> (24 - 8 * place) & 255 for place in range(parts - 1)]
    numbers.append(number & (256 ** (5 - parts) - 1))
    forms = st.sampled_from([str, hex, lambda n: f"0{n:o}", lambda n: f"0X{n:X}", lambda n: f"0x000{n:x}"])
    text = ".".join(data.draw(forms)(one) for one in numbers) + data.draw(st.sampled_from(["", "."]))
    assert read_host(text) == IPv4Address(number)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("example.com:8080", ("example.com", 8080)),
        ("example.com", ("example.com", 80)),
        ("[::1]:443", (IPv6Address("::1"), 443)),
        ("EXAMPLE.com.:00443", ("example.com", 443)),
    ],
)
def test_a_host_with_a_port_is_read(text: str, found: object) -> None:
    assert read_authority(text, 80) == found


@pytest.mark.parametrize(
    "text",
    [
        "a:b@c:80",
        "a:",
        "a:0",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:+1",
        "a: 1",
        "::1",
        "::1:443",
        "[::1]443",
        ":80",
        "a:８０",
    ],
)
def test_what_is_no_host_with_a_port_is_refused(text: str) -> None:
    with pytest.raises(HostSyntaxError):
        read_authority(text, 80)
    with pytest.raises(HostSyntaxError):
        read_authority("example.com")  # without a default


def test_hosts_are_written_as_in_the_option() -> None:
    assert host_and_port("a.example", 443) == "a.example:443"
    assert host_and_port(IPv6Address("::1"), 80) == "[::1]:80"


NOT_PUBLIC = [
    *(
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.5",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
    ),
    *("172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *(
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
    ),
    *("::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "fc00::1"),
    *(
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2001:20::1",
    ),
    *("2002:a00:1::1", "2002:7f00:1::", "3fff::1", "5f00::1", "4000::1"),
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "140.82.121.4",
    "172.32.0.1",
    "100.63.255.255",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]
PUBLIC += ["64:ff9b::808:808", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_name_must_not_lead_to_an_address_that_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_name_may_lead_to_a_public_address(text: str) -> None:
    assert is_public(ip_address(text))
    assert not is_closed(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "224.0.0.1",
    ],
)
def test_nothing_opens_metadata_link_local_and_multicast_addresses(text: str) -> None:
    assert is_closed(ip_address(text))
