"""What the daemon must not forget: triggers, what was last seen, turns, transcripts, questions; in one SQLite file."""

from __future__ import annotations

from agentd_daemon.journal.database import JournalError
from agentd_daemon.journal.journal import Journal
from agentd_daemon.journal.questions import LateAnswerError, UnknownQuestionError
from agentd_daemon.journal.values import (
    JournalledQuestion,
    Origin,
    Seen,
    SettledState,
    Trigger,
    TriggerState,
    TurnNote,
)

__all__ = [
    "Journal",
    "JournalError",
    "JournalledQuestion",
    "LateAnswerError",
    "Origin",
    "Seen",
    "SettledState",
    "Trigger",
    "TriggerState",
    "TurnNote",
    "UnknownQuestionError",
]
