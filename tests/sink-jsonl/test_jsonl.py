from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from agentd.errors import ConfigError
from agentd.events import (
    Approval,
    CodeDelta,
    CodeExecution,
    CodeOutput,
    CodeStart,
    Event,
    Picture,
    ReasoningDelta,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    ToolProgress,
    TurnEnd,
    as_dict,
)
from agentd.text import valid_text
from agentd.types import Usage
from agentd_sink_jsonl import jsonl, plugin
from agentd_sink_jsonl.jsonl import ConversationLog, JsonlSink
from hypothesis import given, strategies as st


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_every_run_gets_a_file_of_its_own_with_all_its_events(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "deep" / "runs")
    for word in ("one", "two"):
        sink.emit(RunStart(task=word, model="m"))
        sink.emit(TextDelta(word))
        sink.emit(RunEnd(text=word, turns=1))
    sink.close()
    files = sorted((tmp_path / "deep" / "runs").iterdir())
    assert sorted(sink.paths) == files
    assert len(files) == 2
    runs = [lines(path) for path in sink.paths]
    assert [[event["type"] for event in run] for run in runs] == [["run_start", "text_delta", "run_end"]] * 2
    assert [run[1]["text"] for run in runs] == ["one", "two"]
    assert all(datetime.fromisoformat(event["ts"]).tzinfo for run in runs for event in run)
    assert runs[0][2]["usage"]["input_tokens"] == 0


EVENTS: tuple[Event, ...] = (
    RunStart(task="t", model="m", executor="e"),
    TextDelta("a"),
    ReasoningDelta("b"),
    CodeDelta(id="1", text="x"),
    CodeStart(id="1", code="x", target="bash"),
    CodeOutput(id="1", text="y", stream="stderr"),
    CodeExecution(code="x", output="y", status="failed", exit_code=2, id="1", wall_s=0.5),
    ToolCall(id="2", name="n", code_id="1", decision="allow"),
    Approval(id="3", kind="host", name="h"),
    ToolProgress(id="2", name="n", done=0.5),
    SourceLog(source="s", text="l"),
    Picture(name="p", path="/p", mime_type="image/png", width=1, height=2, size_bytes=3),
    TurnEnd(turn=2, usage=Usage(input_tokens=5, cost_usd=0.25)),
    RunEnd(text="end", usage=Usage(output_tokens=7)),
)


def test_a_line_has_the_fields_of_its_event_whatever_the_event_is_behind_type_time_and_run(
    tmp_path: Path,
) -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    sink = JsonlSink(tmp_path / "all.jsonl")
    for event in EVENTS:
        sink.emit(event)
    sink.close()
    written = lines(tmp_path / "all.jsonl")
    assert [list(line)[:3] for line in written] == [["type", "ts", "run"]] * len(EVENTS)
    own = [{name: line[name] for name in line if name not in ("ts", "run")} for line in written]
    assert own == list(map(as_dict, EVENTS))


def test_the_lines_of_a_run_have_its_name_in_a_file_of_several_sinks_at_once(tmp_path: Path) -> None:
    sinks = [JsonlSink(tmp_path / "all.jsonl") for _ in range(2)]
    for task in ("first", "second"):
        for event in (RunStart(task=task), TextDelta(text=task), RunEnd(text=task)):
            for sink in sinks:
                sink.emit(event)
    for sink in sinks:
        sink.close()
    names = [line["run"] for line in lines(tmp_path / "all.jsonl")]
    assert names == [*names[:2] * 3, *names[6:8] * 3]
    assert len(set(names)) == 4


def test_a_line_is_in_the_file_before_the_next_event_is_told(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "all.jsonl")
    for count, event in enumerate(EVENTS, 1):
        sink.emit(event)
        assert len(lines(tmp_path / "all.jsonl")) == count
    sink.close()


def test_a_path_that_ends_in_jsonl_is_one_file_for_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    for _ in range(2):
        sink = JsonlSink(path)
        sink.emit(RunStart())
        sink.emit(RunEnd())
        sink.close()
    assert [event["type"] for event in lines(path)] == ["run_start", "run_end"] * 2


def test_only_the_owner_can_read_a_transcript(tmp_path: Path) -> None:
    log = ConversationLog("ptc", "m", tmp_path)
    log.end(0)
    assert log.path.stat().st_mode & 0o777 == 0o600


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_any_text_makes_one_line_that_json_reads_back(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    sink = JsonlSink(tmp_path_factory.mktemp("log"))
    sink.emit(TextDelta(text))
    sink.close()
    assert [event["text"] for event in lines(sink.paths[0])] == [valid_text(text)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_reported_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_unique_path", lambda directory: Path("/dev/full"))
    with caplog.at_level(logging.ERROR):
        sink = JsonlSink(tmp_path)
        sink.emit(RunStart())
        sink.emit(TextDelta("a"))
        sink.emit(RunEnd())
        log = ConversationLog("ptc", "m", tmp_path)
        log.message("user", "hi")
        log.end(1)
    assert [record.message for record in caplog.records] == [
        "the log /dev/full ends here, the run goes on: No space left on device"
    ] * 2


def test_a_line_that_does_not_fit_is_taken_back_so_that_whole_lines_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_write = os.write
    room = 150

    def small_disk(fd: int, data: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        written = real_write(fd, bytes(data)[:room])
        room -= written
        return written

    sink = JsonlSink(tmp_path)
    sink.emit(RunStart(task="fits"))
    monkeypatch.setattr(jsonl.os, "write", small_disk)
    sink.emit(TextDelta("x" * 1000))
    sink.emit(TextDelta("later"))
    monkeypatch.undo()
    assert [event["type"] for event in lines(sink.paths[0])] == ["run_start"]
    assert len(caplog.records) == 1


def _fail_after(monkeypatch: pytest.MonkeyPatch, room: int, meanwhile: Callable[[], object]) -> None:
    """Have the disk take `room` bytes of the next line; `meanwhile` happens before it fails."""
    real_write, is_first = os.write, [True]

    def write(fd: int, data: Any) -> int:
        if is_first and is_first.pop():
            return real_write(fd, bytes(data)[:room])
        monkeypatch.undo()
        meanwhile()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jsonl.os, "write", write)


def test_a_writer_that_fails_takes_back_its_own_piece_and_no_line_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "both.jsonl"
    one, other = JsonlSink(path), JsonlSink(path)
    one.emit(RunStart(task="one"))
    other.emit(RunStart(task="other"))
    other.emit(TextDelta("x" * 500))
    _fail_after(monkeypatch, 20, lambda: None)
    one.emit(TextDelta("does not fit"))
    other.emit(RunEnd())
    assert [event["type"] for event in lines(path)] == ["run_start", "run_start", "text_delta", "run_end"]


def test_a_piece_behind_which_another_has_written_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "both.jsonl"
    one, other = JsonlSink(path), JsonlSink(path)
    _fail_after(monkeypatch, 20, lambda: other.emit(TextDelta("of the other")))
    one.emit(TextDelta("does not fit"))
    other.emit(RunEnd())
    text = path.read_text()
    assert '"of the other"}\n' in text
    assert text.count("\n") == 2


def test_half_a_line_of_a_killed_process_is_ended_before_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text('{"type": "run_start"}\n{"type": "text_del')
    for _ in range(2):  # what is whole gets no empty line
        sink = JsonlSink(path)
        sink.emit(RunStart(task="next"))
        sink.close()
    assert path.read_text().splitlines()[:2] == ['{"type": "run_start"}', '{"type": "text_del']
    assert [json.loads(line)["task"] for line in path.read_text().splitlines()[2:]] == ["next", "next"]


def test_a_log_directory_that_is_a_file_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for make in (
        lambda: JsonlSink(tmp_path / "file" / "x"),
        lambda: ConversationLog("p", "m", tmp_path / "file"),
    ):
        with pytest.raises(ConfigError, match="cannot log into"):
            make()


def test_a_conversation_log_keeps_what_was_said_and_done_with_times(tmp_path: Path) -> None:
    log = ConversationLog("ptc", "gpt", tmp_path)
    log.message("user", [{"type": "text", "text": "grüß dich"}])
    log.tool_call("fence", "bash", {"code": "ls", "odd": object})
    log.tool_result("fence", "bash", "README.md", duration_ms=12)
    log.tool_result("mcp", "echo", "x")
    log.end(turns=2)
    log.message("user", "too late")
    records = lines(log.path)
    assert [r["event"] for r in records] == [
        "session_start",
        "message",
        "tool_call",
        "tool_result",
        "tool_result",
        "session_end",
    ]
    assert records[0] | {"ts": ""} == {
        "event": "session_start",
        "ts": "",
        "patch_type": "ptc",
        "model": "gpt",
    }
    assert records[1]["content"][0]["text"] == "grüß dich"
    assert records[2]["tool_type"] == "fence"
    assert records[2]["input"]["code"] == "ls"
    assert records[3]["duration_ms"] == 12
    assert "duration_ms" not in records[4]
    assert records[5]["turns"] == 2
    assert all("ts" in r for r in records)


def test_lines_from_many_threads_stay_whole(tmp_path: Path) -> None:
    log = ConversationLog("ptc", "m", tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [log.message("user", f"{n}" * 5000) for _ in range(20)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.end(1)
    assert len(lines(log.path)) == 162


def test_the_plugin_needs_a_path_and_says_so(tmp_path: Path) -> None:
    assert isinstance(plugin.agentd_create_event_sink({"path": str(tmp_path)}), JsonlSink)
    with pytest.raises(ConfigError, match="must name a directory"):
        plugin.agentd_create_event_sink({})
    with pytest.raises(ConfigError, match="unknown option 'directory'"):
        plugin.agentd_create_event_sink({"directory": "x"})


# --- whatever comes, a line is JSON ----------------------------------------------------------------------

odd_text = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\x1b\n\u2028"))
odd = st.recursive(
    st.none() | st.integers() | st.floats() | odd_text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(odd_text, inner) | st.frozensets(st.integers()),
    max_leaves=10,
)


def strictly(line: bytes) -> Any:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(line.decode("utf-8", "strict"), parse_constant=refuse)
    repr(found).encode()  # no lone surrogates
    return found


@given(odd, odd_text)
def test_every_line_is_json_that_every_reader_takes(
    tmp_path_factory: pytest.TempPathFactory, value: Any, text: str
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = ConversationLog("ptc", text, folder)
    log.message("user", value)
    log.tool_call("mcp", text, value)
    log.end(1)
    sink = JsonlSink(folder / "events.jsonl")
    sink.emit(CodeExecution(code=text, output=text, status="completed", wall_s=float("nan")))
    sink.emit(ToolCall(id=text, name=text, arguments=text, wall_s=float("inf")))
    sink.close()
    lines = [*log.path.read_bytes().splitlines(), *sink.paths[0].read_bytes().splitlines()]
    assert len([strictly(line) for line in lines]) == 6


@pytest.mark.parametrize("depth", [50, 100_000])
def test_what_is_nested_deep_or_contains_itself_ends_no_log(tmp_path: Path, depth: int) -> None:
    log = ConversationLog("ptc", "m", tmp_path)
    value: list[Any] = []
    value.append(value)
    log.message("user", value)
    deep: Any = float("nan")
    for _ in range(depth):
        deep = {"d": deep}
    log.message("user", deep)
    log.message("user", 10**5000)
    assert [strictly(line)["event"] for line in log.path.read_bytes().splitlines()] == [
        "session_start",
        *["message"] * 3,
    ]
