"""A process that takes, begins and settles triggers as fast as it can, and says what returned, until it is killed."""

from __future__ import annotations

import os
import sys

from agentd.turn.transcript import Transcript
from agentd_daemon.journal import Journal


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main(path: str, number: int) -> None:
    journal = Journal.open(path)
    transcript = journal.load_transcript("news") or Transcript()
    say("ready")
    while True:
        number += 1
        if number % 3:
            taken = journal.accept("news", origin="repl", task=str(number))
        else:
            uri = f"file:///{number % 2}"
            taken = journal.accept(
                "news", origin="subscription", uri=uri, content=str(number), digest=str(number)
            )
        say("accepted", taken.id, number)
        if number % 4 == 0:
            continue  # let some wait
        trigger = journal.next_trigger("news")
        assert trigger is not None
        trigger = journal.begin(trigger.id)
        say("begun", trigger.id, trigger.attempts)
        transcript.add("task", trigger.task or trigger.content)
        transcript.add("answer", "x" * 500)
        journal.save_transcript("news", transcript)
        say("saved", len(transcript.messages))
        if number % 5 == 0:
            journal.retry_later(trigger.id, "later")
            say("retried", trigger.id)
        else:
            journal.settle(trigger.id, state="done", result=str(number))
            say("settled", trigger.id)


main(sys.argv[1], int(sys.argv[2]))
