"""What `policy=` says, as something that judges: a preset, a file, rules, or a function; all faults at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

from agentd.errors import ConfigError, suggest
from agentd.registry.options import shown
from agentd_tools.policy import Decision, PolicyRequest

from agentd_policy.document import InvalidPolicyError, Place, PolicyDocument, read_document
from agentd_policy.matching import Ask, CostUsd
from agentd_policy.presets import PRESETS
from agentd_policy.rules import Judge, Rule, RuleList, Verdict

__all__ = ["policy_problems", "read_policy"]

VERDICTS: Final = get_args(Verdict)
KINDS: Final = ("tool", "create", "host")
TOP: Final = ("preset", "rules", "default", "timeout_s")
MOST: Final = 1e300
"""No number of a policy is as large; an int that is larger has no float."""
Note = Callable[[Place, str], None]
_PORT: Final = re.compile(r"[0-9*?\[\]!-]*").fullmatch


def read_policy(policy: object) -> tuple[Judge, float | None]:
    """Return what judges, and how many seconds an answer may take, None if it does not say.

    :raises ConfigError: for what is no policy, with a line for each fault.
    """
    if isinstance(policy, RuleList) or callable(getattr(policy, "judge", None)):
        return policy, None  # type: ignore[return-value]
    if callable(policy):
        return _Function(policy), None
    if isinstance(policy, str | Path):
        return _named(policy)
    if isinstance(policy, Mapping | list | tuple):
        return _read(policy, PolicyDocument(file="policy", data=policy))
    raise ConfigError(
        "policy: must be a preset's name, a file, a list of rules, a mapping, a function or a SessionPolicy, got "
        f"{shown(policy)}"
    )


def policy_problems(policy: object) -> list[tuple[Place, str]]:
    """Return what is wrong with a policy of plain data, each with its place; that of a file has the file's own places.

    :param policy: as `policy=` takes it.
    """
    try:
        if not isinstance(policy, Mapping | list):
            read_policy(policy)
            return []
        document = PolicyDocument(file="policy", data=policy)
        _read(policy, document)
    except InvalidPolicyError as error:
        return (
            document.noted if isinstance(policy, Mapping | list) else [((), said) for said in error.problems]
        )
    except ConfigError as error:
        return [((), str(error).removeprefix("policy: "))]
    return []


def _named(policy: str | Path) -> tuple[Judge, float | None]:
    if isinstance(policy, str) and policy in PRESETS:
        return PRESETS[policy], None
    path = Path(policy).expanduser()
    if not path.exists() and isinstance(policy, str) and path.suffix not in (".yaml", ".yml"):
        there = ", ".join(map(repr, PRESETS))
        raise ConfigError(
            f"policy: {policy!r} is neither a preset ({there}) nor a file{suggest(policy, PRESETS)}"
        )
    document = read_document(path)
    return _read(document.data, document)


def _read(data: object, document: PolicyDocument) -> tuple[Judge, float | None]:
    """Make rules of plain data (rules in it may be `Rule`s); raise with all that is wrong."""
    note: Note = document.note
    given: Mapping[str, Any] = {}
    if isinstance(data, Mapping):
        given = data
        for key in data:
            if key not in TOP:
                note((str(key),), f"unknown key {key!r}; there are: {', '.join(TOP)}{suggest(str(key), TOP)}")
    elif isinstance(data, Sequence) and not isinstance(data, str):
        given = {"rules": data}
    elif not document.problems:
        note((), f"must be a list of rules, or a mapping with {', '.join(TOP)}; got {shown(data)}")
    base = given.get("preset")
    if base is not None and not (isinstance(base, str) and base in PRESETS):
        note(("preset",), f"must be {_choices(PRESETS)}, got {shown(base)}{suggest(str(base), PRESETS)}")
    preset = PRESETS.get(base) if isinstance(base, str) else None
    place: Place = ("rules",) if isinstance(data, Mapping) else ()
    rules = list(_rules(given.get("rules", []), place, note))
    default = given.get("default", "ask" if preset is None else preset.default)
    if default not in VERDICTS:
        note(
            ("default",),
            f"must be {_choices(VERDICTS)}, got {shown(default)}{suggest(str(default), VERDICTS)}",
        )
    timeout_s: Any = given.get("timeout_s")
    if "timeout_s" in given and (not _is_number(timeout_s) or timeout_s <= 0):
        note(("timeout_s",), f"must be a number of seconds above 0, got {shown(timeout_s)}")
    if document.problems:
        raise InvalidPolicyError(document.problems)
    label = "" if document.file == "policy" else Path(document.file).name
    return RuleList(
        [*rules, *(preset.rules if preset else ())], default, label=label
    ), None if timeout_s is None else float(timeout_s)


def _rules(given: object, place: Place, note: Note) -> Iterator[Rule]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        note(place, f"must be a list of rules, got {shown(given)}")
        return
    for number, rule in enumerate(given):
        here = (*place, number)
        if isinstance(rule, Rule):
            rule = {name: value for name, value in _fields(rule) if value not in (None, "")}
        if not isinstance(rule, Mapping):
            note(here, f"must be a mapping such as {{verdict: allow, kind: tool}}, got {shown(rule)}")
        elif (made := _rule(rule, here, note)) is not None:
            yield made


def _fields(rule: Rule) -> Iterator[tuple[str, Any]]:
    yield "verdict", rule.verdict
    for name in _READERS:
        if name != "verdict":
            yield name, getattr(rule, name)


def _rule(given: Mapping[str, Any], place: Place, note: Note) -> Rule | None:
    wrong = False
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _READERS:
            note(
                (*place, name),
                f"unknown key; a rule has: {', '.join(_READERS)}{suggest(str(name), _READERS)}",
            )
            wrong = True
            continue
        try:
            read[name] = _READERS[name](value)
        except ConfigError as error:
            note((*place, name), str(error))
            wrong = True
    if "verdict" not in given:
        note(place, f"has no verdict; it must be {_choices(VERDICTS)}")
    if "kind" not in given and read.get("verdict") in ("allow", "ask"):
        for pattern in read.get("name", ()):
            if ":" in pattern and not _PORT(pattern.rpartition(":")[2]):
                note(
                    (*place, "name"),
                    f"{pattern!r} may name a tool of a server, or a file: say so with kind: tool, or kind: create",
                )
                wrong = True
    if wrong or "verdict" not in read:
        return None
    return Rule(read.pop("verdict"), **read)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST


def _choices(words: Sequence[str] | Mapping[str, object]) -> str:
    *first, last = map(repr, words)
    return f"{', '.join(first)} or {last}"


def _one_of(words: Sequence[str], value: object) -> object:
    if value not in words:
        raise ConfigError(f"must be {_choices(words)}, got {shown(value)}{suggest(str(value), words)}")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    patterns = value if isinstance(value, list | tuple) else [value]
    if not patterns:
        raise ConfigError("must be a pattern or a list of patterns, got an empty list")
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            quoted = "; put it in quotes" if isinstance(pattern, bool | int | float) else ""
            raise ConfigError(f"must be a pattern or a list of patterns, got {shown(pattern)}{quoted}")
    return tuple(patterns)


def _arguments(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        got = "an empty one" if value == {} else shown(value)
        raise ConfigError(f"must be a mapping of arguments to patterns, got {got}")
    read: dict[str, tuple[str, ...]] = {}
    for name, patterns in value.items():
        try:
            read[name] = _patterns(patterns)
        except ConfigError as error:
            raise ConfigError(f"{name!r} {error}") from None
    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, got {shown(value)}")
    return value


def _cost(value: object) -> float:
    if not _is_number(value) or value < 0:  # type: ignore[operator]  # it is a number
        raise ConfigError(f"must be a number of US dollars from 0 on, got {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"must be a text, got {shown(value)}")
    return value


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "verdict": partial(_one_of, VERDICTS),
    "kind": partial(_one_of, KINDS),
    "name": _patterns,
    "source": _patterns,
    "arguments": _arguments,
    "read_only": _flag,
    "destructive": _flag,
    "cost_over_usd": _cost,
    "reason": _text,
}
"""What a rule may say, and what reads it."""


class _Function:
    """A function of the user's that judges: it takes the request and returns `allow`, `deny`, `ask`, a text with the
    reason of a denial in `("deny", reason)`, or a `Decision`. It is called in an I/O thread, so it must be quick."""

    def __init__(self, function: Callable[[PolicyRequest], object]) -> None:
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                "policy: the function must not be async; what takes time is an approver's: approver="
            )
        self._function = function
        self._name = getattr(function, "__name__", "the policy")

    def judge(self, request: PolicyRequest, cost_usd: CostUsd) -> Decision | Ask:
        """Call it; what goes wrong in it is a no."""
        by = f"by {self._name}"
        try:
            said = self._function(request)
        except Exception as error:  # the user's code; what else it may raise, the gate takes for a no
            return Decision(False, f"denied {by}", f"the policy failed: {type(error).__name__}: {error}")
        reason = ""
        if isinstance(said, tuple) and len(said) == 2 and said[0] == "deny":
            said, reason = "deny", said[1] if isinstance(said[1], str) else ""
        if isinstance(said, Decision):
            return said
        if not isinstance(said, str):
            return Decision(
                False,
                f"denied {by}",
                f"the policy failed: it returned {shown(said)}, not 'allow', 'deny' or 'ask'",
            )
        if said == "allow":
            return Decision(True, f"allowed {by}")
        if said == "ask":
            return Ask(self._name, rule=self._name)
        if said == "deny":
            return Decision(False, f"denied {by}", reason or f"{self._name} does not allow it")
        return Decision(
            False,
            f"denied {by}",
            f"the policy failed: it returned {said!r:.80}, not 'allow', 'deny' or 'ask'",
        )
