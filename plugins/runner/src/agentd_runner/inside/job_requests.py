"""What the command `job` asks, over HTTP beside the tool calls: `POST jobs/WHAT`, JSON there and back."""

from __future__ import annotations

import os

from .http_calls import ToolHttpCall
from .jobs import SessionJobs, signal_number
from .primitives import from_json, to_json
from .session_job import JobRefused, SessionJob
from .setup import may_enter
from .shell_state import is_bash_name
from .timings import JOB_GRACE_S

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any

FOREVER_S = 1e6


class JobRequests:
    """Answers them. What is asked is the code's: nothing of it may raise."""

    def __init__(self, jobs: SessionJobs) -> None:
        self.jobs = jobs

    def take(self, call: ToolHttpCall, what: str, body: bytes) -> None:
        """Answer a request, now or later."""
        questions = {
            "list": self.list_all,
            "out": self.show,
            "wait": self.wait,
            "signal": self.signal,
            "send": self.send,
            "start": self.start,
        }
        try:
            given = from_json(body)
            if what not in questions or not isinstance(given, dict):
                raise JobRefused(f"there are: {', '.join(questions)}, each with a JSON object")
            questions[what](call, given)
        except JobRefused as error:
            call.fail(422, "JobError", str(error))
        except (ValueError, RecursionError) as error:
            call.fail(400, "JobError", f"no JSON: {error}"[:200])

    def list_all(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        reply(call, {"jobs": [job.plain() for job in self.jobs.jobs.values()]})

    def show(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        lines = given.get("tail_lines")
        if lines is not None and type(lines) is not int:
            raise JobRefused("tail_lines: must be a whole number")
        job = self.asked(given)
        reply(call, {"output": readable(job.output.text(lines))})

    def wait(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        seconds = given.get("timeout_s")
        seconds = FOREVER_S if seconds is None else seconds
        if type(seconds) not in (int, float) or not 0 <= seconds <= FOREVER_S:
            raise JobRefused(f"timeout_s: must be a number from 0 to {FOREVER_S:g}")
        job = self.asked(given)
        self.jobs.wait(job, seconds, lambda: reply(call, job.plain()), lambda: is_open(call))

    def signal(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        job = self.asked(given)
        self.jobs.signal(job, signal_number(text_of(given, "signal")))
        reply(call, job.plain())

    def send(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        job = self.asked(given)
        self.jobs.send(job, text_of(given, "text").encode("utf-8", "surrogateescape"))
        reply(call, job.plain())

    def start(self, call: ToolHttpCall, given: dict[str, Any]) -> None:
        command = text_of(given, "command").encode("utf-8", "surrogateescape")
        cwd, env = text_of(given, "cwd"), given.get("env") or {}
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise JobRefused("env: must be an object of text")
        if b"\0" in command or not may_enter(cwd):
            raise JobRefused(f"not started: cannot enter {cwd[:200]!r}, or the command holds a NUL")
        env = {name: value for name, value in env.items() if is_bash_name(name) and "\0" not in value}
        os.fsencode("".join((cwd, *env.values())))  # what has no bytes is refused before anything is started
        job = self.jobs.start(text_of(given, "name"), command, cwd, env, pty=given.get("pty") is True)

        def answer() -> None:
            self.jobs.tell_start(job)
            reply(call, {**job.plain(), "output": readable(job.output.text())})

        self.jobs.wait(job, JOB_GRACE_S, answer, lambda: True)

    def asked(self, given: dict[str, Any]) -> SessionJob:
        return self.jobs.find(text_of(given, "name"))


def text_of(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise JobRefused(f"{name}: must be text")
    return value


def readable(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def reply(call: ToolHttpCall, value: dict[str, Any]) -> None:
    if is_open(call):
        call.answer(200, to_json(value))


def is_open(call: ToolHttpCall) -> bool:
    """False if whoever asked has gone."""
    return call.connection.fileno() >= 0
