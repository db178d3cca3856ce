"""Which distribution brings which official name: what an error tells the user to install."""

from __future__ import annotations

from typing import Final

__all__ = ["OFFICIAL_EXPORTS", "OFFICIAL_PLUGINS", "official_distribution"]

OFFICIAL_PLUGINS: Final = {
    ("executor", "subprocess"): "agentd-executor-subprocess",
    ("executor", "srt"): "agentd-executor-srt",
    ("executor", "msb"): "agentd-executor-msb",
    ("parser", "fence"): "agentd-parser-fence",
    ("parser", "xml"): "agentd-parser-xml",
    ("tool_source", "mcp"): "agentd-mcp-bridge",
    ("skill_renderer", "agentskills"): "agentd-core",
    ("event_sink", "console"): "agentd-core",
    ("event_sink", "jsonl"): "agentd-core",
}
"""Distribution by kind and name."""

OFFICIAL_EXPORTS: Final = {
    "MicrosandboxCLIExecutor": "agentd-executor-msb",
    "SandboxRuntimeExecutor": "agentd-executor-srt",
    "SubprocessExecutor": "agentd-executor-subprocess",
    "create_microsandbox_cli_executor": "agentd-executor-msb",
    "create_sandbox_runtime_executor": "agentd-executor-srt",
}
"""Distribution by public name that `from agentd import NAME` takes from a plugin."""


def official_distribution(kind: str, name: str) -> str:
    """Return the distribution that brings this plugin, or an empty string if agentd knows none."""
    return OFFICIAL_PLUGINS.get((kind, name), "")
