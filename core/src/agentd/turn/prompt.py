"""What the model is told: how to write blocks, what happens with them, and which skills there are.

The text depends on nothing but the tools, so a conversation's first message never changes from one request to
the next and a provider's prompt cache hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentd.notation import Notation

__all__ = ["BASH_GUIDE", "GUIDE", "instructions", "tool_instructions"]

MAX_SOURCE_CHARS = 2000
"""How much of a server's instructions the model is told."""

FRESH = "Python starts fresh every time."
KEPT = "Python keeps its variables and imports from one block to the next."

GUIDE = """\
You act by writing code. {guide}

{forms}

- bash keeps its current directory, variables and functions from one block to the next; `set -e`, `set -u`, `set -x` \
and traps hold for their block alone. {python} What it prints is its result. PATH is relative to the current \
directory, and an existing file is replaced.
{rules}- Blocks that follow each other with nothing but blank space between run at the same time (a create block is \
finished before the blocks behind it start). Put code that depends on other code into one block.
- Text after a block ends your turn: only the blocks before it are run and the text is discarded. Stop after your \
blocks, wait for the results in the next message, then go on.
- Never assume, invent or write down a result before you have read it. The exit code is part of each result.
- Put conditions inside a block: `grep -q TODO notes.txt && sed -i s/TODO/DONE/ notes.txt` in bash, `if` in Python.
- Output that is too long is cut in the middle. Write long output to a file and read the part that you need.
- When the task is done, answer without a block.{example}"""
"""What holds for every notation, with the places of what one says of itself."""

BASH_GUIDE = """\
You act by calling the tool `bash`: its command is carried out in your working directory, and what it prints comes \
back with the exit code. Code in the text of your answer is only shown, never run.

- bash keeps its current directory, variables and functions from one call to the next, but not `set -e` and the like. \
Run Python with `python3 - <<'EOF'`, write files with `cat > PATH <<'EOF'`.
- Calls that you make in one answer run at the same time. Put commands that depend on each other into one call, \
with conditions inside it: `grep -q TODO notes.txt && sed -i s/TODO/DONE/ notes.txt`.
- Never assume, invent or write down a result before you have read it.
- Output that is too long is cut in the middle. Write long output to a file and read the part that you need.
- When the task is done, answer without a call."""
"""What the model is told with `bash_tool=True`, in place of `GUIDE`."""


def instructions(
    *, own: str = "", skills: str = "", python_state: str = "fresh", notation: Notation | None = None
) -> str:
    """Return the system prompt: the caller's `own` instructions, the guide, and the skills.

    The caller's come first, so that text which differs from one tool set to another stands last.

    :param skills: what the skill renderer says; empty if there are no skills.
    :param python_state: what the executor does with Python's namespace: `fresh` or `kept`.
    :param notation: how the model writes blocks; None if it calls the native tool `bash` and writes none.
    """
    guide = BASH_GUIDE
    if notation is not None:
        guide = GUIDE.format(
            guide=notation.guide.strip(),
            forms=notation.forms.strip("\n"),
            python=FRESH if python_state == "fresh" else KEPT,
            rules="".join(f"- {rule.strip()}\n" for rule in notation.rules),
            example=notation.example and f"\n\n{notation.example.strip()}",
        )
    return "\n\n".join(part for part in (own.strip(), guide, skills.strip()) if part)


def tool_instructions(own: str, sources: Sequence[tuple[str, str]]) -> str:
    """Return the system prompt of the JSON tool loop: the caller's own, and nothing else where the tools'
    sources have nothing to say.

    :param sources: name and instructions of each source that has some.
    """
    parts = [f"Instructions of the tool server {name}:\n{_short(text)}" for name, text in sources]
    return "\n\n".join(p for p in [own.strip(), *parts] if p)


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MAX_SOURCE_CHARS else f"{text[:MAX_SOURCE_CHARS]} [...]"
