"""The small parts: results, live output, transcript, budgets, workspace, prices."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from agentd._concurrency.portal import PortalLease
from agentd.errors import ConfigError, WorkspaceError
from agentd.turn.observer import KEPT_BYTES, PENDING_BYTES, OutputRelay
from agentd.turn.transcript import Execution, Transcript, cut_middle, format_results, output_text
from agentd.types import ActionResult, Budgets, Limits, OutputChunk
from agentd.workspace import open_workspace
from hypothesis import given, strategies as st


def execution(**fields: object) -> Execution:
    base = {
        "id": "a",
        "turn": 1,
        "header": "bash:execute",
        "code": "",
        "output": "",
        "status": "completed",
        "exit_code": 0,
    }
    return Execution(**{**base, **fields})  # type: ignore[arg-type]


# --- results ---------------------------------------------------------------------------------------------


def test_the_results_text_is_exactly_as_documented() -> None:
    done = [
        execution(output="total 3\n"),
        execution(header="python:execute", output="Traceback", status="failed", exit_code=1),
        execution(header="x:run", output="no such action", status="rejected", exit_code=126),
        execution(),
    ]
    assert format_results(done, ["a note"]) == (
        "[result 1 of 4: bash:execute, completed, exit code 0]\ntotal 3\n[end of result 1]\n\n"
        "[result 2 of 4: python:execute, failed, exit code 1]\nTraceback\n[end of result 2]\n\n"
        "[result 3 of 4: x:run, rejected]\nno such action\n[end of result 3]\n\n"
        "[result 4 of 4: bash:execute, completed, exit code 0]\n(no output)\n[end of result 4]\n\n"
        "[note: a note]"
    )


@given(st.text(max_size=300), st.integers(10, 100))
def test_a_cut_keeps_head_and_tail_and_counts_what_is_gone(text: str, limit: int) -> None:
    cut = cut_middle(text, limit)
    if len(text) <= limit:
        assert cut == text
        return
    head = limit * 2 // 3
    assert cut.startswith(text[:head])
    assert cut.endswith(text[-(limit - head) :])
    assert f"[... {len(text) - limit} characters were cut here;" in cut


def test_bytes_that_the_executor_dropped_are_named() -> None:
    result = ActionResult(
        status="completed", exit_code=0, chunks=(OutputChunk("stdout", b"x"),), dropped_bytes=9
    )
    assert output_text(result, 100).startswith("x\n[9 bytes were dropped; write long output to a file")


def test_many_blocks_share_the_rounds_characters() -> None:
    budgets = Budgets(max_result_chars=40_000, max_round_chars=120_000)
    assert [budgets.result_chars(n) for n in (1, 3, 6, 1000)] == [40_000, 40_000, 20_000, 1_000]


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("max_turns", 0, "above 0 or None (no limit)"),
        ("wall_time_s", -1.5, "above 0 or None (no limit)"),
        ("wall_time_s", float("nan"), "above 0 or None (no limit)"),
        ("max_result_chars", 0, "above 0"),
        ("max_turns", "5", "a whole number or None (no limit)"),
        ("max_turns", True, "a whole number or None (no limit)"),
        ("max_tool_calls", 2.5, "a whole number or None (no limit)"),
        ("wall_time_s", [1], "a number or None (no limit)"),
        ("max_round_chars", None, "a whole number"),
    ],
)
def test_a_budget_of_nothing_or_of_another_type_is_refused(field: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Budgets(**{field: value})
    assert str(refused.value) == f"Budgets.{field}: must be {wanted}, got {value!r}"


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("memory_mib", "8G", "a whole number or None (no limit)"),
        ("cpu_s", 2.5, "a whole number or None (no limit)"),
        ("output_bytes", None, "a whole number"),
        ("grace_s", -1, "above 0"),
    ],
)
def test_a_limit_of_another_type_is_refused(field: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Limits(**{field: value})
    assert str(refused.value) == f"Limits.{field}: must be {wanted}, got {value!r}"
    assert Limits(grace_s=0, timeout_s=5, memory_mib=None).timeout_s == 5


def test_all_that_is_wrong_with_budgets_or_limits_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Budgets(max_turns="5", wall_time_s=-1)  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "Budgets.max_turns",
        "Budgets.wall_time_s",
    ]
    with pytest.raises(ConfigError) as refused:
        Limits(cpu_s=0, memory_mib="8G")  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "Limits.cpu_s",
        "Limits.memory_mib",
    ]


# --- live output -----------------------------------------------------------------------------------------


def relay(shown: list[tuple[str, str]], full: bool = False) -> OutputRelay:
    return OutputRelay(lambda f: None, lambda text, stream: shown.append((stream, text)), lambda: full)


@given(st.text(max_size=40), st.lists(st.integers(0, 160), max_size=8))
def test_output_cut_anywhere_is_decoded_whole(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    shown: list[tuple[str, str]] = []
    one = relay(shown)
    last = 0
    for at in sorted(cuts):
        one.feed(OutputChunk("stdout", data[last:at]))
        one.flush()
        last = max(last, at)
    one.feed(OutputChunk("stdout", data[last:]))
    one.flush(last=True)
    assert "".join(t for _, t in shown) == data.decode()


def test_bytes_that_are_no_utf8_are_replaced_and_not_lost() -> None:
    shown: list[tuple[str, str]] = []
    one = relay(shown)
    one.feed(OutputChunk("stderr", b"a\xff\xe2\x82"))
    one.flush(last=True)
    assert "".join(t for _, t in shown) == "a��"


def test_a_flood_waits_in_bounded_memory_and_says_what_is_not_shown() -> None:
    shown: list[tuple[str, str]] = []
    one = relay(shown)
    for _ in range(1000):
        one.feed(OutputChunk("stdout", b"x" * 65536))
    assert one._pending_bytes <= PENDING_BYTES + 65536
    one.flush(last=True)
    assert "bytes are not shown live" in shown[-1][1]
    kept = one.partial("stopped")
    assert sum(len(c.data) for c in kept.chunks) <= 2 * KEPT_BYTES + 2 * 65536
    assert kept.dropped_bytes + sum(len(c.data) for c in kept.chunks) == 1000 * 65536


def test_neighbours_of_one_stream_are_shown_in_one_piece() -> None:
    shown: list[tuple[str, str]] = []
    one = relay(shown)
    for stream, data in (("stdout", b"a"), ("stdout", b"b"), ("stderr", b"c"), ("stdout", b"d")):
        one.feed(OutputChunk(stream, data))  # type: ignore[arg-type]
    one.flush()
    assert shown == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]


# --- threads ---------------------------------------------------------------------------------------------


def test_all_leases_share_one_event_loop_thread() -> None:
    one, two = PortalLease(), PortalLease()
    try:
        assert one.portal.call(threading.get_ident) == two.portal.call(threading.get_ident)
        one.close()
        one.close()
        assert two.portal.call(threading.get_ident)
    finally:
        one.close()
        two.close()


# --- the rest --------------------------------------------------------------------------------------------


def test_a_transcript_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for text, says in (
        ("{", "holds no JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "version must be 1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            Transcript.load(path)
    path.write_text('{"version": 1, "messages": [{"x": 1}], "executions": [], "usage": {}}')
    with pytest.raises(ConfigError, match=r"not in the form that Transcript\.save writes"):
        Transcript.load(path)


def test_a_workspace_is_made_with_its_parents(tmp_path: Path) -> None:
    assert open_workspace(tmp_path / "a" / "b").is_dir()
    assert open_workspace(str(tmp_path)) == tmp_path.resolve()


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may write anywhere; run the tests as a user to see this one"
)
def test_a_workspace_without_write_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(mode=0o500)
    with pytest.raises(WorkspaceError, match="you may not write there"):
        open_workspace(tmp_path / "ro")


def test_a_workspace_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="cannot be made"):
        open_workspace(tmp_path / "file" / "below")
