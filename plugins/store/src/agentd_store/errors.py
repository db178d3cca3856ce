"""What can be wrong with a store of checkpoints."""

from __future__ import annotations

from agentd.errors import AgentdError, SnapshotError

__all__ = ["ConversationInUseError", "LeaseLostError", "StoreError"]


class StoreError(SnapshotError):
    """A store cannot be used: not reached, not allowed, full, damaged, or encrypted with another key."""


class ConversationInUseError(StoreError):
    """A conversation is open in another process, which is alive."""

    def __init__(self, conversation: str, holder: str) -> None:
        super().__init__(
            f"the conversation {conversation!r} is open in another process ({holder}): close the session there, or "
            "wait until its lease has run out"
        )
        self.conversation = conversation
        self.holder = holder


class LeaseLostError(AgentdError):
    """Another process has taken a conversation over; nothing that this one does is kept any more. It ends a run."""

    def __init__(self, conversation: str, why: str) -> None:
        super().__init__(
            f"the conversation {conversation!r} was taken over: {why}; this session keeps nothing any more: open the "
            "conversation again to go on from where the other one is"
        )
        self.conversation = conversation
