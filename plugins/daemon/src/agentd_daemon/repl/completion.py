"""Completion: commands, their arguments, and agents to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
from agentd_sink_console.neutral import one_line
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from agentd_daemon.repl.lines import COMMANDS

__all__ = ["Candidate", "ReplCompleter", "candidates"]


@attrs.frozen
class Candidate:
    """What may replace the last `replaces` characters, and a word about it."""

    text: str
    replaces: int
    about: str = ""


def candidates(
    text: str, agents: Sequence[str], checkpoints: Sequence[str], questions: Sequence[str] = ()
) -> list[Candidate]:
    """Return how `text`, the input up to the cursor, may go on."""
    if "\n" in text:
        return []
    if not text.startswith("/"):
        return list(_matching(text, ((f"{name}: ", "") for name in agents))) if text else []
    name, space, argument = text[1:].partition(" ")
    if not space:
        return list(_matching(text, ((_written(c.name, c.argument), c.help) for c in COMMANDS)))
    kind = next((c.argument for c in COMMANDS if c.name == name), "")
    if kind == "agent":
        return list(_matching(argument, ((a, "") for a in agents)))
    if kind == "checkpoint":
        return list(_matching(argument, ((c, "") for c in reversed(checkpoints))))
    if kind in ("allowed", "denied"):
        return list(_matching(argument, ((id, "") for id in questions)))
    if kind == "command":
        return list(_matching(argument, ((c.name, c.help) for c in COMMANDS)))
    return []


def _written(name: str, argument: str) -> str:
    return f"/{name} " if argument else f"/{name}"


def _matching(typed: str, known: Iterable[tuple[str, str]]) -> Iterator[Candidate]:
    for text, about in known:
        if text.casefold().startswith(typed.casefold()) and text != typed:
            yield Candidate(text, len(typed), about)


class ReplCompleter(Completer):
    """Completes from what there is at this moment."""

    def __init__(
        self,
        agents: Callable[[], Sequence[str]],
        checkpoints: Sequence[str],
        questions: Callable[[], Sequence[str]],
    ) -> None:
        self._agents = agents
        self._checkpoints = checkpoints
        self._questions = questions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield what may stand at the cursor."""
        text = document.text_before_cursor
        for found in candidates(text, self._agents(), self._checkpoints, self._questions()):
            yield Completion(
                found.text, -found.replaces, display=one_line(found.text), display_meta=found.about
            )
