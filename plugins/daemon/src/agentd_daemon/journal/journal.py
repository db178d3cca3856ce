"""The journal: everything that the daemon must find again after a `kill -9`."""

from __future__ import annotations

from agentd_daemon.journal.events import EventTable
from agentd_daemon.journal.questions import QuestionTable
from agentd_daemon.journal.transcripts import TranscriptTable
from agentd_daemon.journal.triggers import TriggerTable

__all__ = ["Journal"]


class Journal(TriggerTable, EventTable, TranscriptTable, QuestionTable):
    """The daemon's journal: triggers, events, what was last seen, turns, transcripts and questions, in one SQLite file.

        with Journal.open(state_folder / "journal.db") as journal:
            trigger = journal.accept("news", origin="repl", task="What is new?")

    Methods are quick and may be called from any thread. The daemon is the only one who writes; it holds a lock on
    the state folder. Others may open the file with `readonly=True` meanwhile, or with `guest=True` to answer questions.
    """
