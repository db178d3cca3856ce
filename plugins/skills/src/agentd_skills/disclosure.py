"""What the system prompt says about skills and tools: as much as fits, and the way to the rest.

Levels, each a whole text of its own: every tool with its signature; names with a few words; skills with
the number of their tools; only the numbers. The first that fits is taken, so that the same tools always give
the same text. Tokens are estimated as a quarter of the characters, which holds for English and for code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from agentd_skills.resources import PROMPTS_LINE, RESOURCES, RESOURCES_LINE, resource_names
from agentd_skills.signatures import ToolView
from agentd_skills.texts import first_sentence, one_line

__all__ = ["CHARS_PER_TOKEN", "Skill", "prompt_text"]

CHARS_PER_TOKEN: Final = 4

_SIGNATURE_CHARS: Final = 400
_DESCRIPTION_CHARS: Final = 160
_WORDS_CHARS: Final = 60
_SKILL_CHARS: Final = 120
_DOCUMENT_CHARS: Final = 1024  # as the AgentSkills specification allows
_SHORT_CHARS: Final = 200
_USE_WHEN: Final = re.compile(r"(?:\bUse (?:this|when|whenever|for|if|it)\b|\bWhen to use\b|\bTriggers?\b)")
_IMPORT: Final = "`from lib.tools import NAME`"
_FAILING: Final = "a failing one raises ToolError"


class Skill:
    """A skill with tools: its folder, its source's name, and its tools."""

    def __init__(self, folder: str, source: str, tools: Sequence[ToolView]) -> None:
        self.folder = folder
        self.source = source
        self.tools = tools
        self.has_resources = source == RESOURCES and bool(resource_names([t.binding for t in tools]))

    @property
    def title(self) -> str:
        """What the skill is, in a few words."""
        if self.source == "local":
            return "functions of this session's program"
        return "" if self.source == self.folder else one_line(self.source, 80)


def prompt_text(skills: Sequence[Skill], others: Mapping[str, str], max_tokens: int) -> str:
    """Return the fullest level that fits; the last one fits in any case.

    Every skill and tool is one line of bounded length, whatever its description holds.

    :param skills: the skills that have tools, in the session's order.
    :param others: the descriptions of the other skills in the directory, by name.
    :param max_tokens: how long the text may be, in estimated tokens.
    """
    short = {name: _shortened(text) for name, text in others.items()}
    levels: tuple[tuple[Callable[..., Iterator[str]], Mapping[str, str]], ...] = (
        (_signatures, others), (_signatures, short), (_names, short), (_skills, short)
    )  # fmt: skip
    for level, shown in levels:
        text = _joined(level(skills, shown), max_tokens * CHARS_PER_TOKEN)
        if text is not None:
            return text
    return "\n".join(_numbers(skills, others))


def _joined(lines: Iterator[str], limit: int) -> str | None:
    """Join lines, or return None as soon as they are too long: the rest is then never worked out."""
    taken: list[str] = []
    size = -1
    for line in lines:
        size += len(line) + 1
        if size > limit:
            return None
        taken.append(line)
    return "\n".join(taken)


def _signatures(skills: Sequence[Skill], others: Mapping[str, str]) -> Iterator[str]:
    yield from _other_skills(others)
    if skills:
        yield f"Tools by skill (in Python: {_IMPORT}; {_FAILING}; `skills read SKILL` tells more):"
    for skill in skills:
        yield f"{skill.folder}:" + (f" {skill.title}" if skill.title else "")
        if skill.has_resources:
            yield from _resource_lines()
        for tool in _listed(skill):
            signature = one_line(tool.signature.short(), _SIGNATURE_CHARS)
            yield _line(signature, first_sentence(tool.spec.description, _DESCRIPTION_CHARS))


def _names(skills: Sequence[Skill], others: Mapping[str, str]) -> Iterator[str]:
    yield from _other_skills(others)
    yield (
        f"Tools by skill, without their parameters: `skills search WORDS` finds tools and shows how to call them, "
        f"`skills read SKILL` shows all of a skill (in Python: {_IMPORT}; {_FAILING}):"
    )
    for skill in skills:
        yield f"{skill.folder}:" + (f" {skill.title}" if skill.title else "")
        if skill.has_resources:
            yield from _resource_lines()
        for tool in _listed(skill):
            yield _line(tool.name, first_sentence(tool.spec.description, _WORDS_CHARS))


def _skills(skills: Sequence[Skill], others: Mapping[str, str]) -> Iterator[str]:
    yield from _other_skills(others)
    yield (
        f"There are {_count(skills)}. `skills search WORDS` finds tools and shows how to call them, "
        f"`skills read SKILL` shows all of a skill (in Python: {_IMPORT}; {_FAILING}):"
    )
    for skill in skills:
        number = len(skill.tools)
        names = ", ".join(t.name for t in skill.tools[:10])
        about = f"{skill.title}: {names}" if skill.title else names
        yield _line(f"{skill.folder} ({number} tool{'s' * (number > 1)})", one_line(about, _SKILL_CHARS))


def _numbers(skills: Sequence[Skill], others: Mapping[str, str]) -> Iterator[str]:
    more = f"{len(others)} {'more ' if skills else ''}skills with instructions"
    there = " and ".join([_count(skills)] * bool(skills) + [more] * bool(others))
    yield (
        f"There are {there}: too many to list. Find what you need with `skills search WORDS`, which shows how to "
        f"call a tool (in Python: {_IMPORT}; {_FAILING}); `skills read SKILL` shows all of a skill."
    )


def _count(skills: Sequence[Skill]) -> str:
    return f"{sum(len(s.tools) for s in skills)} tools in {len(skills)} skills"


def _other_skills(others: Mapping[str, str]) -> Iterator[str]:
    if others:
        yield "Skills to read (with `skills read NAME`):"
        for name, text in sorted(others.items()):
            yield _line(one_line(name, 100), one_line(text, _DOCUMENT_CHARS))


def _shortened(text: str) -> str:
    """Return a description in fewer characters, with what says when to use the skill."""
    text = one_line(text, _DOCUMENT_CHARS)
    if len(text) <= _SHORT_CHARS:
        return text
    use = _USE_WHEN.search(text)
    if use is None or use.start() < _SHORT_CHARS // 2:
        return one_line(text, _SHORT_CHARS)
    half = _SHORT_CHARS // 2
    return f"{one_line(text[: use.start()], half)} {one_line(text[use.start() :], half)}"


def _listed(skill: Skill) -> Iterator[ToolView]:
    hidden = resource_names([t.binding for t in skill.tools]) if skill.has_resources else None
    return (t for t in skill.tools if hidden is None or t.spec.name not in hidden)


def _resource_lines() -> Iterator[str]:
    yield f"- `from lib import resources, prompts`: {RESOURCES_LINE}; {PROMPTS_LINE}"


def _line(name: str, text: str) -> str:
    return f"- {name}: {text}" if text else f"- {name}"
