"""Which distribution brings which official name: what an error tells the user to install."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["OFFICIAL_EXPORTS", "OFFICIAL_PLUGINS", "UNDERLYING", "normalize", "official_distribution"]

OFFICIAL_PLUGINS: Final = {
    **{("executor", name): f"agentd-executor-{name}" for name in ("subprocess", "native", "srt", "msb")},
    ("executor", "auto"): "agentd-executor-native",
    **{("parser", name): f"agentd-parser-{name}" for name in ("fence", "xml")},
    **{("tool_source", n): f"agentd-{d}" for n, d in (("mcp", "mcp-bridge"), ("models", "subagents"))},
    ("tool_source", "python"): "agentd-tools",
    ("skill_renderer", "agentskills"): "agentd-skills",
    **{("event_sink", name): f"agentd-sink-{name}" for name in ("console", "html", "jsonl", "otel")},
    **{("model", name): f"agentd-model-{name}" for name in ("openai", "litellm")},
    **{("snapshot_store", n): f"agentd-{d}" for n, d in (("packs", "snapshots"), ("store", "store"))},
    **{("trigger", name): f"agentd-trigger-{name}" for name in ("cron", "file", "mcp-events", "webhook")},
    **{("command", n): f"agentd-{d}" for n, d in (("chat", "chat"), ("run", "cli"), ("demo", "demo"))},
    **{("command", name): "agentd-daemon" for name in ("daemon", "status", "approvals", "check", "schema")},
    **{("command", n): f"agentd-{d}" for n, d in (("acp", "acp"), ("mcp", "mcp-server"), ("serve", "serve"))},
    **{("command", n): f"agentd-{d}" for n, d in (("trace", "sink-html"), ("checkpoints", "store"))},
    ("command", "fleet"): "agentd-ray",
    **{("command", name): "agentd-cli" for name in ("plugins", "config", "doctor")},
    ("command", "escape-test"): "agentd-testing",
    **{("command", n): f"agentd-{d}" for n, d in (("new-plugin", "new-plugin"), ("completion", "cli"))},
}
"""Distribution by kind and name. The order of the commands is that of `agentd --help`."""

OFFICIAL_EXPORTS: Final = {
    **{n: f"agentd-{d}" for n, d in (("ConversationLog", "sink-jsonl"), ("models_from_code", "subagents"))},
    **dict.fromkeys(("Image", "Images", "create_pictures", "task_parts"), "agentd-images"),
    **dict.fromkeys(("MicrosandboxCLIExecutor", "create_microsandbox_cli_executor"), "agentd-executor-msb"),
    **{f"{name}Executor": f"agentd-executor-{name.lower()}" for name in ("Native", "Subprocess")},
    **dict.fromkeys(("SandboxRuntimeExecutor", "create_sandbox_runtime_executor"), "agentd-executor-srt"),
    **dict.fromkeys(("display_events", "display_events_async"), "agentd-openai"),
    **dict.fromkeys(("patch_openai_with_mcp", "patch_openai_with_ptc"), "agentd-openai"),
    **{n: f"agentd-{d}" for n, d in (("create_policy", "policy"), ("show", "skills"), ("tool", "tools"))},
}
"""Distribution by public name that `from agentd import NAME` takes from a plugin."""

UNDERLYING: Final = frozenset(
    f"agentd-{name}"
    for name in (
        *("acp", "chat", "cli", "core", "daemon", "demo", "history", "images", "mcp-server", "model-litellm"),
        *("model-openai", "new-plugin", "openai", "policy", "sink-console", "sink-html", "sink-jsonl"),
        *("serve", "skills", "snapshots", "testing", "tools"),
    )
)
"""Distributions that an allow list need not name."""


def official_distribution(kind: str, name: str) -> str:
    """Return the distribution that brings this plugin, or an empty string if agentd knows none."""
    return OFFICIAL_PLUGINS.get((kind, name), "")


def normalize(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares them: `Agentd_Foo` is `agentd-foo`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
