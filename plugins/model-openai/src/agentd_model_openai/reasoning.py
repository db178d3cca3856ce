"""What a model thinks before it answers, as text, from each form in which a provider sends it.

Wire formats: chat completions have no field for it, so servers have their own: `reasoning_content` (DeepSeek,
llama.cpp, SGLang, LiteLLM), `reasoning` (vLLM, Ollama, OpenRouter), parts of `content` with the type `thinking`
(Mistral), and `thinking_blocks` (LiteLLM for Anthropic, beside `reasoning_content`). The responses API has items of the
type `reasoning`, with the text itself, a summary of it, or neither (OpenAI API reference, "Responses").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from agentd.text import valid_text

from agentd_model_openai.pieces import TextJoiner

__all__ = [
    "DELTAS",
    "StreamedReasoning",
    "chat_reasoning",
    "field_of",
    "fields_of",
    "is_text_alone",
    "items_reasoning",
]

DELTAS: Final = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
"""The events that bring the text of a reasoning item."""
_TEXT: Final = ("content", "role")
_THOUGHT: Final = ("reasoning_content", "reasoning", "content", "thinking_blocks")
_DONE: Final = "response.output_item.done"


def field_of(message: Any, name: str) -> Any:
    """Return a field of a message, or None. pydantic raises an error for one that is not there, which takes longer than
    reading a whole chunk."""
    more = getattr(message, "__pydantic_extra__", None)
    if more is None:
        return getattr(message, name, None)
    values = message.__dict__
    return values[name] if name in values else more.get(name)


def fields_of(message: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return those of some fields that a message has a value in, in their order. None is no value."""
    more = getattr(message, "__pydantic_extra__", None)
    if more is None:
        found = {name: getattr(message, name, None) for name in names}
    else:
        values = {**more, **message.__dict__} if more else message.__dict__
        found = {name: values.get(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def is_text_alone(message: Any) -> bool:
    """Tell whether a message or delta has a text, its role perhaps, and no other value, as most have."""
    if getattr(message, "__pydantic_extra__", None) != {}:
        return False
    values = message.__dict__
    return isinstance(values.get("content"), str) and not [
        name for name in values if values[name] is not None and name not in _TEXT
    ]


def chat_reasoning(message: Any) -> str:
    """Return the reasoning of a message or delta, whose content is as it came. Some servers send it in two fields."""
    fields = fields_of(message, _THOUGHT)
    for name in ("reasoning_content", "reasoning"):
        if isinstance(value := fields.get(name), str) and value:
            return value
    content = fields.get("content")
    parts = [p for p in content if _kind(p) == "thinking"] if isinstance(content, list) else []
    return _texts(parts or fields.get("thinking_blocks"), "thinking")


def items_reasoning(items: Iterable[Any]) -> str:
    """Return the reasoning in the output of a response."""
    found = (_item_text(item) for item in items if item.type == "reasoning")
    return "\n\n".join(text for text in found if text)


class StreamedReasoning:
    """Reads the reasoning out of the events of one answer, which `WholeEvents` has made whole: that of an item once."""

    def __init__(self) -> None:
        self._forms: dict[Any, str] = {}  # of each item, by its number: the type of the events that bring it
        self._joiner = TextJoiner()

    def feed(self, event: Any) -> str:
        """Return what this event adds."""
        number = getattr(event, "output_index", None)
        if event.type in DELTAS:
            if self._forms.setdefault(number, event.type) != event.type or not isinstance(event.delta, str):
                return ""  # the summary of what was told already
            return self._joiner.feed(event.delta)
        if event.type == "response.reasoning_summary_part.added" and self._forms.get(number) == DELTAS[1]:
            return "\n\n"
        if event.type == _DONE and event.item.type == "reasoning" and number not in self._forms:
            return _item_text(event.item)
        return ""


def _item_text(item: Any) -> str:
    texts = (_texts(getattr(item, name, None), "text", between="\n\n") for name in ("content", "summary"))
    return valid_text(next((text for text in texts if text), ""))


def _texts(parts: Any, name: str, *, between: str = "", is_inner: bool = False) -> str:
    """Return the texts of parts, in the field `name`; of Mistral's, that field has parts again, and those have none."""
    if not isinstance(parts, list):
        return ""
    found = (p.get(name) if isinstance(p, dict) else getattr(p, name, None) for p in parts)
    texts = (_texts(f, "text", is_inner=True) if isinstance(f, list) and not is_inner else f for f in found)
    return between.join(text for text in texts if isinstance(text, str) and text)


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
