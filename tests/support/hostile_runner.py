"""A process that speaks the runner's protocol wrongly: what a runner that hostile code has taken over might send.

`python hostile_runner.py CASE` says a correct READY, waits for an action, and then does what the case says; the cases
in `STARTS` begin with it. Each case says how it must end for whoever asked for the action: `breach` (ProtocolError),
`died` (RunnerDiedError), `ended` (one of both), `start` (RunnerStartError), or the output of a normal end. Those in
`SILENT` are ended by nothing but the action's time-out.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from agentd_runner.inside import frames

__all__ = ["CASES", "ENDS", "HANG_S", "SILENT", "TOOL_WAITS"]

HANG_S = 600.0  # longer than any test waits: a case that is silent so long is ended by the host, or by nobody

TOOL_WAITS = "waits"  # the name of a tool that answers late
DEEP = 30_000
GOOD = {
    "status": "completed",
    "exit_code": 0,
    "wall_s": 0.1,
    "cpu_s": 0.1,
    "peak_memory_bytes": 1,
    "message": "",
}
JOB = {"name": "web", "state": "started", "exit_code": 0, "wall_s": 0.1, "message": ""}
HELLO = {
    "version": frames.VERSION,
    "release": frames.RELEASE,
    "pid": 2,
    "python": "3.11.7",
    "bash": "/bin/bash",
    "subreaper": True,
}


class Talk:
    """The pipe, and the action that was asked for."""

    def __init__(self) -> None:
        self.reader = frames.FrameReader(frames.TO_RUNNER)
        self.ident = 0
        self.inbox: list[tuple[int, int, bytes]] = []

    def raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def send(self, kind: int, payload: bytes = b"", ident: int | None = None) -> None:
        self.raw(frames.HEADER.pack(len(payload), kind, self.ident if ident is None else ident) + payload)

    def header(self, length: int, kind: int) -> None:
        self.raw(frames.HEADER.pack(length, kind, self.ident))

    def exit(self, value: object = GOOD, ident: int | None = None, **changes: object) -> None:
        value = {**GOOD, **changes} if changes else value
        self.send(frames.EXIT, json.dumps(value).encode(), ident)

    def job(self, **changes: object) -> None:
        self.send(frames.JOB, json.dumps({**JOB, **changes}).encode(), 0)

    def ready(self, value: object = HELLO, **changes: object) -> None:
        value = {**HELLO, **changes} if changes else value
        self.send(frames.READY, json.dumps(value).encode(), 0)

    def call(self, number: int, name: bytes = b"double", arguments: bytes = b'{"x": 1}') -> None:
        head = struct.pack("!IH", self.ident, len(name))
        self.send(frames.CALL, head + name + arguments, number)

    def wait_for(self, kind: int) -> bytes:
        while True:
            while self.inbox:
                got, ident, payload = self.inbox.pop(0)
                if got == kind:
                    if kind == frames.RUN:
                        self.ident = ident
                    return payload
            self.inbox += self.reader.feed(os.read(0, 1 << 16) or sys.exit(0))


Case = Callable[[Talk], Any]
CASES: dict[str, Case] = {}
STARTS: set[str] = set()
SILENT: set[str] = set()
ENDS: dict[str, str] = {}


def case(
    end: str = "breach", *, name: str = "", start: bool = False, silent: bool = False
) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        key = (name or function.__name__).replace("_", "-")
        CASES[key], ENDS[key] = function, "start" if start else end
        if start:
            STARTS.add(key)
        if silent:
            SILENT.add(key)
        return function

    return add


def forever(function: Callable[[], object]) -> None:
    while True:
        function()


def json_cases(kind: int, name: str, *, start: bool = False, **payloads: bytes) -> None:
    for what, payload in payloads.items():
        case(name=f"{name}-{what}", start=start)(lambda talk, payload=payload: talk.send(kind, payload, None))


NO_OBJECTS = {
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "text": b'"completed"',
    "nothing": b"",
    "no_json": b"{status}",
    "no_utf8": b'{"status": "\xff"}',
    "utf16": json.dumps(GOOD).encode("utf-16"),
    "deep_list": b"[" * DEEP,
    "deep_object": b'{"a":' * (DEEP // 3),
    "many_objects": b"[" + b"{}," * (DEEP // 2) + b"{}]",
    "string_without_end": b'{"status": "' + b'\\"' * DEEP,
    "brackets_in_text": b'{"' + b"[{" * 100 + b'": [[]]}',
}
OBJECTS = ((frames.EXIT, "exit"), (frames.READY, "ready"), (frames.FATAL, "fatal"), (frames.JOB, "job"))
for kind, kind_name in OBJECTS:
    json_cases(kind, kind_name, start=kind == frames.READY, **NO_OBJECTS)

for what, changes in {
    "status_unknown": {"status": "fine"},
    "status_null": {"status": None},
    "status_list": {"status": ["completed"]},
    "code_text": {"exit_code": "0"},
    "code_bool": {"exit_code": True},
    "code_float": {"exit_code": 0.0},
    "code_negative": {"exit_code": -1},
    "code_256": {"exit_code": 256},
    "code_huge": {"exit_code": 10**4000},
    "wall_nan": {"wall_s": float("nan")},
    "wall_infinite": {"wall_s": float("inf")},
    "wall_negative": {"wall_s": -1},
    "wall_text": {"wall_s": "1"},
    "wall_huge": {"wall_s": 10**4000},
    "cpu_null": {"cpu_s": None},
    "memory_negative": {"peak_memory_bytes": -1},
    "memory_float": {"peak_memory_bytes": 1.5},
    "memory_huge": {"peak_memory_bytes": 2**64},
    "message_null": {"message": None},
    "message_number": {"message": 3},
    "unknown_field": {"chunks": "x"},
    "many_fields": {f"f{number}": 1 for number in range(100)},
}.items():
    case(name=f"exit-{what}")(lambda talk, changes=changes: talk.exit(**changes))

case(name="exit-without-status")(lambda talk: talk.exit({"exit_code": 0}))
case(name="exit-without-code")(lambda talk: talk.exit({"status": "completed"}))
case(name="exit-long-number")(lambda talk: talk.send(frames.EXIT, b'{"exit_code": ' + b"9" * 60_000 + b"}"))
case(name="exit-too-long")(lambda talk: talk.exit(message="x" * frames.MAX_WORDS))
case(name="exit-for-another")(lambda talk: talk.exit(ident=talk.ident + 1))
case(name="exit-by-shell")(
    lambda talk: talk.send(frames.SHELL, b'{"workspace": "", "cwd": "", "source": null}')
)
case(name="shell-unasked")(lambda talk: talk.send(frames.SHELL, b'{"error": "x"}', 99))
case(name="imports-unasked")(lambda talk: talk.send(frames.IMPORTS, b'{"left_out": "x"}', 99))
case(name="exit-by-imports")(lambda talk: talk.send(frames.IMPORTS, b'{"left_out": "x"}'))
case(name="ready-twice")(lambda talk: talk.ready())
case(name="length-of-4-gib")(lambda talk: talk.header(2**32 - 1, frames.EXIT))
case(name="length-of-64-mib-output")(lambda talk: talk.header(frames.MAX_FRAME, frames.STDOUT))
case(name="length-of-a-call-too-long")(lambda talk: talk.header(frames.MAX_FRAME + 1, frames.CALL))
for number in (0, 2, 64, 73, 255):
    case(name=f"kind-{number}")(lambda talk, number=number: talk.send(number, b"x"))
case(name="text-instead-of-frames")(lambda talk: talk.raw(b"Traceback (most recent call last):\n"))

for what, changes in {
    "version_of_tomorrow": {"version": 999},
    "version_text": {"version": "1"},
    "release_other": {"release": "0.0.1"},
    "release_long": {"release": "9" * 60_000},
    "pid_negative": {"pid": -1},
    "pid_bool": {"pid": True},
    "python_number": {"python": 3},
    "bash_null": {"bash": None},
}.items():
    case(name=f"ready-{what}", start=True)(lambda talk, changes=changes: talk.ready(**changes))
case(name="ready-too-long", start=True)(lambda talk: talk.ready(python="3" * frames.MAX_WORDS))
case(name="exit-before-ready", start=True)(lambda talk: talk.exit())
case(name="call-before-ready", start=True)(lambda talk: talk.call(1))
case(name="output-before-ready", start=True)(lambda talk: talk.send(frames.STDOUT, b"x"))
case(name="endless-text-before-ready", start=True)(lambda talk: forever(lambda: talk.raw(b"\0" * 65536)))


# --- output


case(name="output-empty")(lambda talk: talk.send(frames.STDOUT))
case(name="output-empty-many")(lambda talk: talk.raw(frames.pack(frames.STDERR, talk.ident, b"") * 5000))
case(name="output-for-another")(lambda talk: talk.send(frames.STDOUT, b"x", talk.ident + 1))
case(name="output-too-long")(lambda talk: talk.send(frames.STDOUT, b"x" * (frames.MAX_OUTPUT + 1)))
case(name="output-endless")(lambda talk: forever(lambda: talk.send(frames.STDOUT, b"x" * 65536)))
case(name="errors-endless")(lambda talk: forever(lambda: talk.send(frames.STDERR, b"x" * 65536)))
case(name="dropped-short")(lambda talk: talk.send(frames.DROPPED, b"\1"))
case(name="dropped-long")(lambda talk: talk.send(frames.DROPPED, b"\1" * 10))
for stream, count in ((0, 5), (3, 5), (1, 0), (1, 2**64 - 1)):
    case(name=f"dropped-{stream}-{count}")(
        lambda talk, stream=stream, count=count: talk.send(frames.DROPPED, struct.pack("!BQ", stream, count))
    )
case(name="dropped-for-another")(lambda talk: talk.send(frames.DROPPED, struct.pack("!BQ", 1, 5), 77))
case(name="dropped-endless")(
    lambda talk: forever(lambda: talk.send(frames.DROPPED, struct.pack("!BQ", 1, 5)))
)


@case(
    "ended", silent=True
)  # by the time-out, unless the machine is so quick that the limit of output comes first
def output_in_single_bytes_without_end(talk: Talk) -> None:
    piece = frames.pack(frames.STDOUT, talk.ident, b"x") + frames.pack(frames.STDERR, talk.ident, b"y")
    forever(lambda: talk.raw(piece * 3000))


@case("y" * 100)
def output_in_single_bytes(talk: Talk) -> None:
    pair = frames.pack(frames.STDOUT, talk.ident, b"x") + frames.pack(frames.STDERR, talk.ident, b"y")
    talk.raw(pair * 30_000)
    talk.exit()


@case("last")
def exit_and_then_output(talk: Talk) -> None:
    talk.raw(
        frames.pack(frames.STDOUT, talk.ident, b"last")
        + frames.pack(frames.EXIT, talk.ident, json.dumps(GOOD).encode())
    )
    talk.send(frames.STDOUT, b"later")


@case("")
def exit_twice(talk: Talk) -> None:
    talk.exit()
    talk.exit()


@case("\ufffd and \ufffd")
def exit_with_lone_surrogates(talk: Talk) -> None:
    talk.exit(message="\udcff and \ud800")


@case("")
def errors_of_its_own_without_end(talk: Talk) -> None:
    for _ in range(500):
        os.write(2, b"\x1b[2J" * 16384)
    talk.exit()


# --- calls


case(name="call-empty")(lambda talk: talk.send(frames.CALL))
case(name="call-short")(lambda talk: talk.send(frames.CALL, b"\0" * 5))
case(name="call-name-too-long")(lambda talk: talk.send(frames.CALL, struct.pack("!IH", 1, 65535) + b"double"))


@case()
def calls_with_one_number(talk: Talk) -> None:
    talk.call(5, TOOL_WAITS.encode(), b"{}")
    talk.call(5, TOOL_WAITS.encode(), b"{}")


@case("")
def call_after_exit(talk: Talk) -> None:
    talk.exit()
    talk.call(1)


@case("")
def call_with_nan_and_half_a_character(talk: Talk) -> None:
    talk.call(1, b"dou\xffble", b'{"x": NaN}')
    talk.call(2, b"double", b'{"x": NaN}')
    talk.call(3, b"double", b"[" * 100_000)
    for _ in range(3):
        talk.wait_for(frames.REPLY)
    talk.exit()


@case("")
def more_calls_than_may_be(talk: Talk) -> None:
    for number in range(3000):
        talk.call(number, TOOL_WAITS.encode(), b"{}")
    talk.exit()


@case("died", silent=True)
def large_calls_and_nothing_read(talk: Talk) -> None:
    for number in range(1, 21):  # in all, twice the memory that a case may take
        talk.call(number, TOOL_WAITS.encode(), b'{"x": "' + b"x" * 6_000_000 + b'"}')
    time.sleep(HANG_S)


@case("died", silent=True)
def calls_whose_answers_are_never_read(talk: Talk) -> None:
    number = 0
    while True:
        number += 1
        talk.call(number, b"large", b"{}")


@case("died", silent=True)
def a_large_call_that_never_comes(talk: Talk) -> None:
    talk.header(frames.MAX_FRAME, frames.CALL)
    time.sleep(HANG_S)


# --- jobs


for what, changes in {
    "name_null": {"name": None},
    "name_empty": {"name": ""},
    "name_long": {"name": "x" * 33},
    "name_of_two_lines": {"name": "a\nb"},
    "name_with_a_line_end": {"name": "a\n"},
    "name_capital": {"name": "Web"},
    "state_unknown": {"state": "paused"},
    "state_list": {"state": ["ended"]},
    "end_of_none": {"state": "ended"},
    "code_256": {"exit_code": 256},
    "wall_nan": {"wall_s": float("nan")},
    "message_null": {"message": None},
    "message_too_long": {"message": "x" * frames.MAX_WORDS},
    "unknown_field": {"pid": 1},
}.items():
    case(name=f"job-{what}")(lambda talk, changes=changes: talk.job(**changes))
case(name="job-without-state")(lambda talk: talk.send(frames.JOB, b'{"name": "web"}', 0))


@case()
def job_that_starts_twice(talk: Talk) -> None:
    talk.job()
    talk.job()


@case()
def more_jobs_than_may_be(talk: Talk) -> None:
    for number in range(9):
        talk.job(name=f"job{number}")


@case("")
def jobs_without_end(talk: Talk) -> None:
    for _ in range(5_000):
        talk.job()
        talk.job(state="ended", message="x" * 1000)
    talk.exit()


# --- the end of the pipe


case("died", name="half-a-header-and-the-end")(lambda talk: talk.raw(b"\0\0"))


@case("died")
def half_a_frame_and_the_end(talk: Talk) -> None:
    talk.header(100, frames.STDOUT)
    talk.raw(b"x" * 50)


@case("died", silent=True)
def half_a_frame_and_silence(talk: Talk) -> None:
    talk.header(100, frames.EXIT)
    time.sleep(HANG_S)


@case("died")
def the_pipe_closed_and_alive(talk: Talk) -> None:
    os.close(1)
    time.sleep(HANG_S)


@case("died")
def killed(talk: Talk) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


case("died", name="fatal")(lambda talk: talk.send(frames.FATAL, b'{"message": "no more\\ud800"}'))
case(name="fatal-null")(lambda talk: talk.send(frames.FATAL, b'{"message": null}'))


def main(name: str) -> None:
    talk = Talk()
    talk.wait_for(frames.HELLO)
    if name not in STARTS:
        talk.ready()
        talk.wait_for(frames.RUN)
    CASES[name](talk)
    while ENDS[name] != "died" and os.read(0, 1 << 16):  # until it is killed, or its executor is closed
        pass


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        main(sys.argv[1])
    except BrokenPipeError:
        os._exit(0)
