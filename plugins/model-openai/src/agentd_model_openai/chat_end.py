"""How an answer of chat completions ended, from what its pieces say about that."""

from __future__ import annotations

from typing import Any, Final

import attrs
from agentd.protocols import ModelFinish
from agentd.types import Usage

from agentd_model_openai.reasoning import fields_of

__all__ = ["AnswerEnd"]

_LOOKED_AT: Final = ("refusal", "audio", "images")
"""The refusal, and the fields that hold an answer in another form than text."""


@attrs.define(eq=False)
class AnswerEnd:
    """Takes the message, or each delta, with the finish reason if there is one."""

    reason: str = ""
    refusal: str = ""
    _has_text: bool = False
    _other: bool = False

    def see(self, message: Any, reason: object) -> None:
        """Take a piece."""
        self.reason = str(reason) if reason else self.reason
        if message is not None:
            fields = fields_of(message, _LOOKED_AT)
            refusal = fields.pop("refusal", None)
            self.refusal += refusal if isinstance(refusal, str) else ""
            self._has_text = self._has_text or bool(message.content)
            self._other = self._other or any(fields.values())

    def see_text(self, text: str, reason: object) -> None:
        """Take a piece that is a text alone."""
        self.reason = str(reason) if reason else self.reason
        self._has_text = self._has_text or bool(text)

    def finish(self, usage: Usage, raw: object = None) -> ModelFinish:
        """Return the end. A refusal in place of the text comes with the reason `stop`."""
        refused = bool(self.refusal) and not self._has_text
        reason = "refusal" if refused else self.reason
        detail = f"the model refuses: {self.refusal}" if refused else ""
        return ModelFinish(reason=reason, detail=detail, other=self._other, usage=usage, raw=raw)
