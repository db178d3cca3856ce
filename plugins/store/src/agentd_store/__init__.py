"""Checkpoints in a bucket or any other fsspec URL: sessions go on where another machine has left them."""

from __future__ import annotations

from agentd_store.errors import ConversationInUseError, LeaseLostError, StoreError
from agentd_store.snapshots import StoredSnapshots

__all__ = ["ConversationInUseError", "LeaseLostError", "StoreError", "StoredSnapshots"]
