"""How a picture stands in a conversation: a line of text with its name, size and file. Whoever shows the model pictures
reads these lines; where nobody does, they are what the model is told.

    [note: picture 1 of result 2: plot.png, image/png, 640 x 480 pixels, 12 KiB; file .agentd/pictures/0f3a...c1.png]

An old picture that the model is no longer to see says `old picture`.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from agentd.turn.transcript import Message, Transcript

__all__ = ["FOLDER", "PICTURE", "files_in", "files_of", "picture_tokens", "without_pictures"]

FOLDER: Final = ".agentd/pictures"
"""Where pictures are kept, in the workspace."""

PICTURE: Final = re.compile(
    r"^\[(?:note: )?picture\b[^\n]*?, (\d{1,6}) x (\d{1,6}) pixels, [^\n]*; file "
    + re.escape(FOLDER)
    + r"/([0-9a-f]{32}\.(?:png|jpg|webp))\]$",
    re.MULTILINE,
)
"""Finds the lines of pictures: width, height, name of the file."""

_WORD: Final = re.compile(r"^(\[(?:note: )?)picture\b", re.MULTILINE)
_PIXELS_A_TOKEN: Final = 750  # Anthropic's rule, July 2025; OpenAI's tiles come to about the same
_PART_TOKENS: Final = 1_000  # of a picture whose size is not known


def files_in(message: Message) -> list[str]:
    """Return the names of the files of a message's pictures, each once."""
    parts = [part["text"] for part in message.parts if part["type"] == "text"]
    texts = (message.content, *parts, *(call.output for call in message.calls))
    return list(dict.fromkeys(file for text in texts for _, _, file in PICTURE.findall(text)))


def files_of(transcript: Transcript) -> list[str]:
    """Return those of a conversation, the newest last; what was taken back does not count."""
    found: dict[str, None] = {}
    for message in transcript.messages:
        if message.role != "withdrawn":
            for file in files_in(message):
                found.pop(file, None)
                found[file] = None
    return list(found)


def picture_tokens(message: Message) -> int:
    """Return what a message's pictures cost, by estimate: a token for each 750 pixels."""
    texts = (message.content, *(call.output for call in message.calls))
    sizes = [
        int(width) * int(height)
        for text in texts
        for width, height, _ in (PICTURE.findall(text) if "[" in text else ())
    ]
    parts = [part for part in message.parts if part["type"] == "image_url"]
    return sum(1 + size // _PIXELS_A_TOKEN for size in sizes) + _PART_TOKENS * len(parts)


def without_pictures(message: Message) -> Message:
    """Return the message with text alone where pictures were."""
    parts = tuple(
        {"type": "text", "text": "[old picture]"}
        if part["type"] == "image_url"
        else {**part, "text": _old(part["text"])}
        if part["type"] == "text"
        else part
        for part in message.parts
    )
    calls = tuple(attrs.evolve(call, output=_old(call.output)) for call in message.calls)
    return attrs.evolve(message, content=_old(message.content), calls=calls, parts=parts)


def _old(text: str) -> str:
    return PICTURE.sub(lambda found: _WORD.sub(r"\1old picture", found[0]), text)
