"""Typed lines: what a line that a person has entered asks for, and how one may go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
from agentd_cli.prompt.lines import CommandSpec, Invocation, read_command
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

__all__ = ["COMMANDS", "ChatCompleter", "ChatMessage", "read_line"]

COMMANDS: Final = (
    CommandSpec(name="undo", help="take the last turn back: its files, the shell and what was said"),
    CommandSpec(
        name="diff",
        help="what the last turn changed in files; all: the conversation",
        argument="diff",
        word="all",
    ),
    CommandSpec(name="cost", help="what this conversation has cost: money, tokens, turns"),
    CommandSpec(
        name="model", help="the model; with a name, go on with that one", argument="model", word="NAME"
    ),
    CommandSpec(name="jobs", help="processes that run on behind their block, and the end of their output"),
    CommandSpec(
        name="attach",
        help="put a file into the next message, as @PATH in it does",
        argument="path",
        required=True,
    ),
    CommandSpec(name="help", help="this list, or one command", argument="command"),
    CommandSpec(name="exit", help="leave; the conversation is kept. Also: exit, quit, Ctrl-D"),
)
_OPEN: Final = re.compile(r'(?<!\S)@(?:"[^"\n]*|[^"\s]*)\Z')
"""What is being written behind `@`."""
_EXIT: Final = ("exit", "quit", "/quit")


@attrs.frozen
class ChatMessage:
    """A message for the model."""

    text: str


def read_line(line: str) -> ChatMessage | Invocation | None:
    """Return what a line asks for, or None if it is blank. `//text` is the message `/text`. Raises `LineError`."""
    text = line.strip()
    if not text:
        return None
    if text in _EXIT:
        return read_command("exit", COMMANDS)
    if text.startswith("//"):
        return ChatMessage(text[1:])
    if text.startswith("/"):
        return read_command(text[1:], COMMANDS)
    return ChatMessage(text)


class ChatCompleter(Completer):
    """Completes commands, their arguments, and paths behind `@`.

    :param folder: what paths are relative to.
    :param models: returns the names of models that were used.
    """

    def __init__(self, folder: Path, models: Callable[[], Sequence[str]]) -> None:
        self._models = models
        self._paths = PathCompleter(get_paths=lambda: [str(folder)], expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield what may stand at the cursor."""
        text = document.text_before_cursor
        if text.startswith("/") and "\n" not in text:
            yield from self._command(text[1:], complete_event)
            return
        if found := _OPEN.search(text):
            yield from self._named(found[0], complete_event)

    def _command(self, text: str, event: CompleteEvent) -> Iterator[Completion]:
        name, space, argument = text.partition(" ")
        if not space:
            for spec in COMMANDS:
                written = f"/{spec.name} " if spec.argument else f"/{spec.name}"
                if spec.name.startswith(name):
                    yield Completion(written, -len(name) - 1, display_meta=spec.help)
            return
        kind = next((spec.argument for spec in COMMANDS if spec.name == name), "")
        if kind == "path":
            yield from self._path(argument, event)
        known: dict[str, Sequence[str]] = {
            "diff": ["all"],
            "model": self._models(),
            "command": [spec.name for spec in COMMANDS],
        }
        for word in known.get(kind, ()):
            if word.startswith(argument) and word != argument:
                yield Completion(word, -len(argument))

    def _named(self, word: str, event: CompleteEvent) -> Iterator[Completion]:
        """Complete `@PATH`; a path with blanks is quoted, and stays open where it may go on in a folder."""
        typed = word.removeprefix("@").removeprefix('"')
        for one in self._path(typed, event):
            path = typed[: len(typed) + one.start_position] + one.text
            if '"' not in word and not re.search(r"\s", path):
                yield one
                continue
            is_folder = one.display_text.endswith("/")
            written = f'@"{path}/' if is_folder else f'@"{path}"'
            yield Completion(written, -len(word), display=one.display)

    def _path(self, typed: str, event: CompleteEvent) -> Iterator[Completion]:
        yield from self._paths.get_completions(Document(typed, len(typed)), event)
