"""An answer to a journalled question: noted once, whoever gives it, and kept if it is to hold always."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from agentd_daemon.control import AnswerScope
from agentd_daemon.journal import Journal, JournalledQuestion
from agentd_daemon.journal.values import QuestionState

__all__ = ["GivenAnswer", "give_answer"]


@attrs.frozen
class GivenAnswer:
    """An answer that counts, and what waited for it (`open`: a call, `parked`: a task, `lost`: neither)."""

    question: JournalledQuestion
    waited: QuestionState

    def what_follows(self, *, runs: bool) -> str:
        """Say what becomes of it.

        :param runs: whether a daemon runs that has been told of it.
        """
        word = "allowed" if self.question.allowed else "denied"
        waited = "lost" if self.waited == "open" and not runs else self.waited
        when = "" if runs else " when the daemon is started"
        return f"{word}: {self.question.name}; {_FOLLOWS[waited]}{when}"


_FOLLOWS: Final = {
    "open": "its call goes on",
    "parked": "its task goes on",
    "lost": "the same call gets the answer if its task makes it again",
}


def give_answer(
    journal: Journal, id: str, *, allowed: bool, scope: AnswerScope = "once", reason: str = "", by: str
) -> GivenAnswer:
    """Note an answer; the first one counts. What is allowed always is not asked about in that workspace any more.

    :raises UnknownQuestionError: there is no such question.
    :raises LateAnswerError: it takes no answer any more.
    :raises JournalError: it could not be noted.
    """
    waited = journal.question(id).state
    question = journal.answer(id, allowed=allowed, scope=scope, reason=reason, by=by)
    if allowed and scope == "always":
        from agentd_policy.remembered import RememberedAnswers

        kept = RememberedAnswers(Path(question.workspace))
        kept.add_always(question.kind, question.source, question.name, question.rule)
    return GivenAnswer(question, waited)
