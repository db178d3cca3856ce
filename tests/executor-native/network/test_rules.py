"""`allowed_hosts`: what its entries mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest
from agentd.errors import ConfigError
from agentd_executor_native.network import HostRules
from agentd_executor_native.network.hosts import read_authority, read_host

RULES = HostRules.parse(
    "allowed_hosts",
    [
        *(
            "github.com:443",
            "*.Python.org",
            "bücher.example.",
            "10.0.0.5:8080",
            "10.1.0.0/16",
            "[fd12::5]:22",
        ),
        *("127.0.0.1:9000", "100.64.0.0/10:1234", "git.corp.example:22", "git.corp.example:443"),
    ],
)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "github.com:443",
            "GitHub.com.:443",
            "www.python.org:443",
            "a.b.python.org:80",
            "xn--bcher-kva.example:80",
        ),
        *("10.0.0.5:8080", "167772165:8080", "[::ffff:10.0.0.5]:8080", "10.1.255.255:443", "10.1.2.3:80"),
        *("[fd12:0::5]:22", "127.1:9000", "git.corp.example:22", "git.corp.example:443", "100.64.0.1:1234"),
    ],
)
def test_what_an_entry_means_is_allowed(target: str) -> None:
    assert RULES.allows(*read_authority(target))


@pytest.mark.parametrize(
    "target",
    [
        *(
            "github.com:80",
            "www.github.com:443",
            "notgithub.com:443",
            "github.com.evil.example:443",
            "python.org:443",
        ),
        *("xpython.org:443", "www.python.org:8443", "10.0.0.5:443", "10.0.0.6:8080", "10.2.0.1:443"),
        *("127.0.0.1:9001", "127.0.0.2:9000", "[::1]:9000", "git.corp.example:80", "100.100.100.200:1234"),
    ],
)
def test_what_no_entry_means_is_not(target: str) -> None:
    assert not RULES.allows(*read_authority(target))


def test_without_entries_nothing_is_allowed() -> None:
    assert HostRules.parse("allowed_hosts", None) == HostRules.parse("allowed_hosts", [])
    assert not HostRules().allows("example.com", 443)


WRONG = {
    "*": "'*' that is not",
    "*:443": "'*' that is not",
    "*.com": "top-level domain",
    "*.": "not the name",
    "*.*.com": "'*' that is not",
    "a*.example.com": "'*' that is not",
    "www.*.com": "'*' that is not",
    "https://github.com": "scheme",
    "github.com/path": "path",
    "user@github.com": "more than a host",
    "github.com:": "port ''",
    "github.com:0": "port '0'",
    "github.com:99999": "port '99999'",
    "github.com:https": "port 'https'",
    "github.com:*": "port '*'",
    "github.com, gitlab.com": "space",
    " github.com": "space",
    "": "empty",
    "a..b": "not the name",
    "exa\0mple.com": "control",
    "a%2eb": "more than a host",
    "localhost": "'127.0.0.1:8080'",
    "localhost:8080": "'127.0.0.1:8080'",
    "2130706433": "'127.0.0.1'",
    "0x7f.1:80": "'127.0.0.1'",
    "10.0.0.5.": "'10.0.0.5'",
    "[::ffff:10.0.0.5]": "'10.0.0.5'",
    "fd12::5": "brackets",
    "[fd12::5": "brackets",
    "[10.0.0.5]": "brackets",
    "[github.com]": "brackets",
    "*.10.0.0.5": "no names below",
    "10.0.0.5/16": "bits behind its prefix",
    "0.0.0.0/0": "wider than /8",
    "[::/0]": "wider than /7",
    "10.0.0.0/33": "path",
    "169.254.169.254": "never",
    "169.254.0.0/16": "never",
    "0.0.0.0:80": "never",
    "224.0.0.1": "never",
    "[fe80::1]": "never",
    "[fd00:ec2::254]": "never",
}


@pytest.mark.parametrize("entry", WRONG)
def test_a_wrong_entry_is_named_with_what_is_wrong_and_what_is_allowed(entry: str) -> None:
    with pytest.raises(ConfigError) as raised:
        HostRules.parse("allowed_hosts", ["good.example", entry])
    message = str(raised.value)
    assert f"allowed_hosts: {entry!r} " in message
    assert WRONG[entry] in message
    assert "good.example" not in message
    assert "'*.example.com'" in message


def test_all_wrong_entries_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'\*'.*7 is not a text.*'\*\.com'"):
        HostRules.parse("allowed_hosts", ["*", 7, "*.com"])  # type: ignore[list-item]


@pytest.mark.parametrize("given", ["github.com", b"github.com", 7, {"a": 1}.items])
def test_a_list_is_wanted(given: object) -> None:
    with pytest.raises(ConfigError, match="allowed_hosts: must be a list of hosts"):
        HostRules.parse("allowed_hosts", given)  # type: ignore[arg-type]


def test_each_of_many_entries_allows_its_own_hosts_alone() -> None:
    entries = [f"h{number}.example.com" for number in range(150)]
    entries += [f"*.d{number}.example.org:443" for number in range(100)]
    entries += [f"10.{number}.0.0/16:8080" for number in range(50)]
    rules = HostRules.parse("allowed_hosts", entries)
    for number in range(150):
        assert rules.allows(f"h{number}.example.com", 443)
        assert rules.allows(f"a.b.d{number}.example.org", 443) == (number < 100)
        assert rules.allows(read_host(f"10.{number}.1.1"), 8080) == (number < 50)
        assert not rules.allows(f"d{number}.example.org", 443)
        assert not rules.allows(f"a.h{number}.example.com", 443)
