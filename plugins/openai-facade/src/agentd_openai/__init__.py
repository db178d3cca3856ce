"""The OpenAI facade: a client that a program already has becomes an agent that acts by writing code.

Only the given client object is changed; the `openai` package itself is imported when a client is patched.
"""

from __future__ import annotations

from agentd_openai.client import patch_openai_with_mcp, patch_openai_with_ptc, unpatch_openai

__all__ = ["patch_openai_with_mcp", "patch_openai_with_ptc", "unpatch_openai"]
