"""What the daemon must not forget: triggers, what was last seen, turns and transcripts, in one SQLite file."""

from __future__ import annotations

from agentd_daemon.journal.database import JournalError
from agentd_daemon.journal.journal import Journal
from agentd_daemon.journal.values import Origin, Seen, SettledState, Trigger, TriggerState, TurnNote

__all__ = ["Journal", "JournalError", "Origin", "Seen", "SettledState", "Trigger", "TriggerState", "TurnNote"]
