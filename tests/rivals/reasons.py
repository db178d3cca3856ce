"""Why another one is first in a row, by figure and side; without a side, for all. Printed where it is so."""

from __future__ import annotations

__all__ = ["REASONS"]

INSIDE = "It runs in the program's own process: nothing is handed to another one, and nothing lies between the two."
MONTY = "Monty makes an interpreter in a process that is there; agentd forks a CPython, with all that CPython can do."

REASONS = {
    ("cold_ms", "pydantic-ai"): "Monty's processes are started with its pool, before the first session.",
    ("cold_ms", "smolagents"): INSIDE,
    ("cold_ms", "fastmcp"): MONTY,
    ("fresh_ms", "pydantic-ai"): MONTY,
    ("fresh_ms", "smolagents"): INSIDE,
    (
        "kept_ms",
        "pydantic-ai",
    ): "A message to Monty and back is less than one to a CPython whose output is watched.",
    ("kept_ms", "smolagents"): INSIDE,
    ("standard_ms", "pydantic-ai"): "Its modules are its own few functions, in the interpreter itself.",
    ("numpy_ms", ""): INSIDE,
    (
        "call_ms",
        "pydantic-ai",
    ): "Monty's host waits in the very thread that answers and sees to nothing else; agentd's answers beside an "
    "event loop that goes on with output, time-outs and other calls.",
    ("call_ms", "smolagents"): INSIDE,
    (
        "loop_ms",
        "pydantic-ai",
    ): "All of agentd's time is CPython's own: 3.11 takes as long for the loop without any agentd, so that it is "
    "the floor of whatever runs it.",
    ("big_call_ms", "smolagents"): f"{INSIDE} The megabyte is not even copied.",
    ("big_call_ms", "pydantic-ai"): "It hands text over in binary frames; our bindings write it as JSON.",
    ("bash_ms", ""): "It starts a shell that forgets all; agentd's keeps folder, variables and functions.",
    (
        "flood_ms",
        "pydantic-ai",
    ): "Its print is a buffer of the interpreter; ours is what a process writes into a pipe.",
    ("flood_ms", ""): "The text is returned in one piece, and not seen before.",
    ("session_ms", ""): "A session of it is an object; its first block starts what it needs.",
    ("session_mib", ""): "A session of it holds no process.",
    ("session_close_ms", ""): "There is no process to end.",
    ("sleeping_ms", "pydantic-ai"): "Its sleep is a coroutine of the host.",
    ("turn_ms", ""): "It calls the tool as JSON: no code is run.",
    ("turn_kb", ""): "It sends less of a guide.",
    (
        "limit_over_ms",
        "",
    ): "It ends the interpreter alone; agentd gives processes a moment to end by themselves.",
    ("mcp_call_ms", "pydantic-ai"): "Its interpreter stands still while the host answers.",
}
