"""Which distribution brings which official name: what an error tells the user to install."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["OFFICIAL_EXPORTS", "OFFICIAL_PLUGINS", "UNDERLYING", "normalize", "official_distribution"]

OFFICIAL_PLUGINS: Final = {
    ("executor", "subprocess"): "agentd-executor-subprocess",
    **{("executor", name): "agentd-executor-native" for name in ("native", "auto")},
    ("executor", "srt"): "agentd-executor-srt",
    ("executor", "msb"): "agentd-executor-msb",
    ("parser", "fence"): "agentd-parser-fence",
    ("parser", "xml"): "agentd-parser-xml",
    ("tool_source", "mcp"): "agentd-mcp-bridge",
    ("tool_source", "python"): "agentd-tools",
    ("skill_renderer", "agentskills"): "agentd-skills",
    ("event_sink", "console"): "agentd-sink-console",
    ("event_sink", "jsonl"): "agentd-sink-jsonl",
    ("model", "openai"): "agentd-model-openai",
    ("model", "litellm"): "agentd-model-litellm",
    ("snapshot_store", "packs"): "agentd-snapshots",
    ("command", "run"): "agentd-cli",
    ("command", "demo"): "agentd-demo",
    **{("command", name): "agentd-daemon" for name in ("daemon", "status", "check", "schema")},
    ("command", "plugins"): "agentd-cli",
    ("command", "doctor"): "agentd-cli",
    ("command", "escape-test"): "agentd-testing",
    ("command", "new-plugin"): "agentd-new-plugin",
    ("command", "completion"): "agentd-cli",
}
"""Distribution by kind and name. The order of the commands is that of `agentd --help`."""

OFFICIAL_EXPORTS: Final = {
    "ConversationLog": "agentd-sink-jsonl",
    "MicrosandboxCLIExecutor": "agentd-executor-msb",
    "NativeExecutor": "agentd-executor-native",
    "SandboxRuntimeExecutor": "agentd-executor-srt",
    "SubprocessExecutor": "agentd-executor-subprocess",
    "create_microsandbox_cli_executor": "agentd-executor-msb",
    "create_sandbox_runtime_executor": "agentd-executor-srt",
    "display_events": "agentd-openai",
    "display_events_async": "agentd-openai",
    "patch_openai_with_mcp": "agentd-openai",
    "patch_openai_with_ptc": "agentd-openai",
    "tool": "agentd-tools",
}
"""Distribution by public name that `from agentd import NAME` takes from a plugin."""

UNDERLYING: Final = frozenset(
    {
        *("agentd-cli", "agentd-core", "agentd-daemon", "agentd-demo", "agentd-model-litellm"),
        *("agentd-model-openai", "agentd-new-plugin", "agentd-openai", "agentd-sink-console"),
        *("agentd-sink-jsonl", "agentd-skills", "agentd-snapshots", "agentd-testing", "agentd-tools"),
    }
)
"""Distributions that an allow list need not name."""


def official_distribution(kind: str, name: str) -> str:
    """Return the distribution that brings this plugin, or an empty string if agentd knows none."""
    return OFFICIAL_PLUGINS.get((kind, name), "")


def normalize(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares them: `Agentd_Foo` is `agentd-foo`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
