"""The constants of the simulation: what was measured, and how (`tests/ray/measure_constants.py`)."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["CONSTANTS", "ScaleConstants"]


@attrs.frozen(kw_only=True)
class ScaleConstants:
    """What the parts of a fleet cost. CPU in seconds of one core; a kind of request is counted as S3 does.

    :ivar session_cpu_s: to open a session that is kept in a store, and to close it.
    :ivar turn_cpu_s: of agentd for a turn and its checkpoint, without what the code itself does.
    :ivar memory_mib: of an open session that rests.
    :ivar session_writes: PUT and DELETE of an opening and a closing; `session_reads`: GET, HEAD and LIST.
    :ivar session_store_steps: those of them that wait for one another.
    :ivar turn_writes: PUT and DELETE of a turn's checkpoint; `turn_reads`, `turn_store_steps` as above.
    :ivar store_latency_s: of one request.
    :ivar store_writes_per_s: for each partitioned prefix, as `store_reads_per_s`.
    :ivar task_driver_cpu_s: of the driver for a task of a map: open, ask, answer, journal.
    :ivar event_driver_cpu_s: of the driver for an event of a run that it reads.
    """

    session_cpu_s: float = 0.15
    turn_cpu_s: float = 0.045
    memory_mib: float = 5.1
    session_writes: float = 3.7
    session_reads: float = 3.8
    session_store_steps: float = 8.0
    turn_writes: float = 4.25
    turn_reads: float = 1.1
    turn_store_steps: float = 4.0
    store_latency_s: float = 0.1
    store_writes_per_s: float = 3_500.0
    store_reads_per_s: float = 5_500.0
    task_driver_cpu_s: float = 0.0075
    event_driver_cpu_s: float = 0.0001


CONSTANTS: Final = ScaleConstants()
