"""The kinds of work, by name, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from endurance.works.work import Work

__all__ = ["DEFAULT", "WORKS", "work_named"]

DEFAULT = {
    "fresh-sessions": "sessions.FreshSessions",
    "long-sessions": "sessions.LongSessions",
    "jobs": "jobs.Jobs",
    "mcp-servers": "servers.McpServers",
    "rewinds": "checkpoints.Rewinds",
    "stored-sessions": "checkpoints.StoredSessions",
    "broken-runs": "broken.BrokenRuns",
    "patched-clients": "facade.PatchedClients",
    "serve-clients": "serve_clients.ServeClients",
    "mcp-clients": "mcp_clients.McpClients",
    "interrupted-runs": "commands.InterruptedRuns",
    "chat-turns": "commands.ChatTurns",
    "daemon-changes": "changes.DaemonChanges",
    "daemon-reloads": "changes.DaemonReloads",
    "daemon-kills": "changes.DaemonKills",
    "server-kills": "changes.ServerKills",
}
"""What a run does."""
ON_PURPOSE = {"leaks-on-purpose": "on_purpose.LeakyWork", "loses-on-purpose": "on_purpose.LosingWork"}
"""What does wrong, for the tests of the harness."""
WORKS = {**DEFAULT, **ON_PURPOSE}


def work_named(name: str) -> type[Work]:
    """Return a kind of work."""
    module, _, attribute = WORKS[name].partition(".")
    found: type[Work] = getattr(import_module(f"endurance.works.{module}"), attribute)
    assert found.name == name
    return found
