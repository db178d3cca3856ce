"""The wire formats, and one way of asking for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["ANSWER", "BLOCK", "FORMATS", "OWN", "Format", "Told", "ask"]

BLOCK = "I look.\n```bash:execute\necho $((6*7)) | tee -a ran\n```\n"
ANSWER = "It is forty-two, as ever."


@attrs.frozen
class Format:
    """`model` and the path of the address; `own` if the client itself speaks it, else LiteLLM does."""

    name: str
    model: str
    path: str
    api: str
    own: bool

    def call(self, url: str) -> dict[str, Any]:
        """Arguments of a call."""
        given: dict[str, Any] = {"model": self.model}
        given["input" if self.api == "responses" else "messages"] = [{"role": "user", "content": "go"}]
        if not self.own:
            given |= {"api_base": url + self.path, "api_key": "key-of-the-provider"}
        return given

    def session(self, url: str) -> dict[str, Any]:
        """Arguments of a `Session`, beside the model's name."""
        given: dict[str, Any] = {"api": self.api, "api_key": "key-of-the-session"}
        if self.own:
            return {**given, "base_url": url + self.path}
        return {**given, "model_options": {"api_base": url + self.path}}


FORMATS = [
    Format("openai-chat", "gpt-x", "/v1", "chat", True),
    Format("openai-responses", "gpt-x", "/v1", "responses", True),
    Format("anthropic-chat", "anthropic/claude-x", "/anthropic", "chat", False),
    Format("anthropic-responses", "anthropic/claude-x", "/anthropic", "responses", False),
    Format("gemini-chat", "gemini/gemini-x", "/gemini/v1beta", "chat", False),
    Format("gemini-responses", "gemini/gemini-x", "/gemini/v1beta", "responses", False),
]
OWN = [f for f in FORMATS if f.own]


@attrs.define
class Told:
    """What a call gave before it ended or raised."""

    text: str = ""
    items: list[Any] = attrs.field(factory=list)
    whole: Any = None
    error: Exception | None = None


def ask(fmt: Format, client: Any, url: str, *, stream: bool, **more: Any) -> Told:
    """Call the patched client and keep what came, the error too."""
    create: Callable[..., Any] = (
        client.responses.create if fmt.api == "responses" else client.chat.completions.create
    )
    told = Told()
    try:
        if not stream:
            told.whole = create(**fmt.call(url), **more)
            whole = told.whole
            told.text = whole.output_text if fmt.api == "responses" else whole.choices[0].message.content
            return told
        for item in create(**fmt.call(url), stream=True, **more):
            told.items.append(item)
            if fmt.api == "responses":
                told.text += item.delta if item.type == "response.output_text.delta" else ""
            elif item.choices:
                told.text += item.choices[0].delta.content or ""
    except Exception as exc:
        told.error = exc
    return told
