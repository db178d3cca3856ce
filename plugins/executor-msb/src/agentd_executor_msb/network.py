"""What a microVM may reach: the words of a user's setting, turned into the SDK's network policy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from agentd.errors import ConfigError

if TYPE_CHECKING:
    from microsandbox import Network
    from microsandbox.types import NetworkDestination, Rule

__all__ = ["NetworkSetting", "check_network", "to_network"]

NetworkSetting: TypeAlias = "str | Sequence[str] | Network"

PROFILES = ("none", "public", "private", "host")
GROUPS = ("public", "private", "loopback", "link-local", "metadata", "multicast", "host")
_RULE = re.compile(
    r"(?:(?P<action>allow|deny)(?::(?P<direction>egress|ingress|any))?@)?"
    r"(?P<target>\[[0-9a-fA-F:.]+(?:/\d+)?\]|[^\s:@,]+)"
    r"(?::(?P<protocol>tcp|udp|icmpv4|icmpv6)(?::(?P<ports>\d+(?:-\d+)?))?)?"
)
_HOST_NAME = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
WEB_PORTS = (443, 80)


def check_network(setting: NetworkSetting) -> NetworkSetting:
    """Return the setting; raise `ConfigError` if it is none. Does not import the SDK."""
    if isinstance(setting, str):
        if setting not in (*PROFILES, "all"):
            raise ConfigError(
                f"network: must be one of {', '.join(map(repr, (*PROFILES, 'all')))} or a list of rules such as "
                f"'api.github.com' or 'allow@10.0.0.0/8:tcp:5432', got {setting!r}"
            )
    elif isinstance(setting, Sequence):
        for text in setting:
            _parse(text)
    elif not type(setting).__module__.startswith("microsandbox"):
        raise ConfigError(
            f"network: must be a word, a list of rules or a microsandbox.Network, got {setting!r}"
        )
    return setting


def to_network(setting: NetworkSetting) -> Network:
    """Return the SDK's `Network` for a setting.

    `none` denies all, `public`, `private` and `host` allow that group beside names' look-ups, `all` allows
    everything. A list holds rules `[ACTION[:DIRECTION]@]TARGET[:PROTOCOL[:PORTS]]`; a name alone allows its
    ports 443 and 80. The first rule that fits counts, and what no rule allows is denied. Look-ups of names
    are allowed as soon as a rule allows a name.
    """
    from microsandbox import Network, NetworkPolicy, NetworkProfile, Rule
    from microsandbox.types import Action

    if isinstance(setting, Network):
        return setting
    if isinstance(setting, str):
        if setting == "none":
            return Network.none()
        if setting == "all":
            return Network.allow_all()
        return Network.from_profiles(NetworkProfile(setting))
    parsed = [_parse(text) for text in setting]
    rules = [rule for match in parsed for rule in _rules(match)]
    if any(_is_name(match["target"]) and match["action"] != "deny" for match in parsed):
        rules = [*Rule.allow_dns(), *rules]
    policy = NetworkPolicy(default_egress=Action.DENY, default_ingress=Action.DENY, rules=tuple(rules))
    return Network(policy=policy)


def _parse(text: object) -> re.Match[str]:
    match = _RULE.fullmatch(text) if isinstance(text, str) else None
    if match is None or not (_is_name(match["target"]) or _is_other_target(match["target"])):
        raise ConfigError(
            f"network: {text!r} is no rule; write [allow|deny[:egress|ingress|any]@]TARGET[:tcp|udp[:PORTS]], where "
            f"TARGET is a host name, '*.example.com', an address or a network ([...] around IPv6), "
            f"{', '.join(GROUPS)} or *"
        )
    return match


def _is_name(target: str) -> bool:
    return not _is_other_target(target) and _HOST_NAME.fullmatch(target.lower()) is not None


def _is_other_target(target: str) -> bool:
    if target == "*" or target in GROUPS:
        return True
    try:
        ipaddress.ip_network(target.strip("[]"), strict=False)
    except ValueError:
        return False
    return True


def _rules(match: re.Match[str]) -> list[Rule]:
    from microsandbox import Rule
    from microsandbox.types import Action, Direction, Protocol

    web = match["action"] is None and match["protocol"] is None and _is_name(match["target"])
    protocol = Protocol.TCP if web else Protocol(match["protocol"]) if match["protocol"] else None
    return [
        Rule(
            action=Action(match["action"] or "allow"),
            direction=Direction(match["direction"] or "egress"),
            destination=_destination(match["target"]),
            protocol=protocol,
            port=port,
        )
        for port in (WEB_PORTS if web else (match["ports"],))
    ]


def _destination(target: str) -> NetworkDestination:
    from microsandbox import Destination
    from microsandbox.types import DestGroup

    if target == "*":
        return Destination.any()
    if target in GROUPS:
        return Destination.group(DestGroup(target))
    if target.startswith("*."):
        return Destination.domain_suffix(target[2:].lower())
    if _is_name(target):
        return Destination.domain(target.lower())
    address = target.strip("[]")
    return Destination.cidr(address) if "/" in address else Destination.ip(address)
