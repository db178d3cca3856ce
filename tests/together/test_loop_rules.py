"""The turn rules: what runs, when, in which order, and what the model is told."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ExecutorClosedError, ModelStreamError, RunnerDiedError
from agentd.events import CodeDelta, CodeExecution, CodeStart, Event, TextDelta, TurnEnd
from agentd.protocols import ModelEvent, ModelText, ModelToolCall
from agentd.registry import Registry
from agentd.turn.loop import TurnLoop
from agentd.turn.observer import Listener
from agentd.turn.reading import AnswerReader
from agentd.turn.rounds import Round
from agentd.types import ActionResult, Budgets, OutputChunk
from agentd_parser_fence.plugin import FORMS
from agentd_tools.offers import NativeOffers
from script_model import RecordingExecutor, ScriptModel

pytestmark = pytest.mark.anyio


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


class Recorder(Listener):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


def make_loop(
    model: ScriptModel, tmp_path: Path, behave: Any = None, **settings: Any
) -> tuple[TurnLoop, RecordingExecutor, Recorder]:
    executor, recorder = RecordingExecutor(tmp_path, behave), Recorder()
    loop = TurnLoop(
        model=model,
        executor=executor,
        notations=Registry().create_notations(["fence"]),
        listener=recorder,
        **settings,
    )
    return loop, executor, recorder


async def test_an_answer_without_blocks_ends_the_run_and_is_its_text(tmp_path: Path) -> None:
    model = ScriptModel("Two and two is four.")
    loop, executor, recorder = make_loop(model, tmp_path)
    end = await loop.run()
    assert (end.stop_reason, end.text, end.turns) == ("answer", "Two and two is four.", 1)
    assert executor.log == []
    assert "".join(e.text for e in recorder.of(TextDelta)) == "Two and two is four."


async def test_a_round_is_gone_without_the_garbage_collector(tmp_path: Path) -> None:
    loop, _, _ = make_loop(ScriptModel(bash("true"), bash("true"), "Done."), tmp_path)
    gc.collect()
    others = {id(o): o for o in rounds()}  # of a run that something else, a traceback say, still holds
    gc.disable()
    try:
        assert (await loop.run()).turns == 3
        assert not [o for o in rounds() if id(o) not in others]
    finally:
        gc.enable()


def rounds() -> list[Any]:
    return [o for o in gc.get_objects() if isinstance(o, Round | AnswerReader)]


async def test_a_block_starts_while_the_answer_still_streams(tmp_path: Path) -> None:
    started = anyio.Event()

    async def behave(source: str, emit: Any) -> None:
        if source == "first":
            started.set()

    model = ScriptModel([bash("first"), started.wait, bash("second")], "done")
    loop, executor, _ = make_loop(model, tmp_path, behave)
    with anyio.fail_after(5):  # the model writes on only when the first block has started
        await loop.run()
    assert [s for what, s in executor.log if what == "start"] == ["first", "second"]


async def test_a_block_starts_before_more_is_read_of_what_has_come_along(tmp_path: Path) -> None:
    """The rest of the answer is there already: reading it never waits, so nothing else would get a turn."""
    read_then: list[int] = []

    async def behave(source: str, emit: Any) -> None:
        read_then.append(model.read)

    first = bash("first") + "x"  # the closing line is certain with its end
    model = ScriptModel([first + " " + bash("second"), "no more"], "done", piece=len(first) - 1)
    loop, _, _ = make_loop(model, tmp_path, behave)
    await loop.run()
    assert read_then[0] == model.piece


async def test_parallel_blocks_run_at_the_same_time_and_their_results_come_back_in_order(
    tmp_path: Path,
) -> None:
    second_done = anyio.Event()

    async def behave(source: str, emit: Any) -> None:
        if source == "first":
            await second_done.wait()
        else:
            second_done.set()

    model = ScriptModel(bash("first") + "\n \n" + bash("second"), "done")
    loop, executor, _ = make_loop(model, tmp_path, behave)
    with anyio.fail_after(5):
        await loop.run()
    assert executor.log[-1] == ("end", "first")
    assert model.results[0].index("first") < model.results[0].index("second")


async def test_blocks_after_prose_do_not_run_and_the_stream_is_closed_there(tmp_path: Path) -> None:
    tail = "The result is 42.\n" + bash("second") + "x" * 3000
    model = ScriptModel("I look.\n" + bash("first") + "\n" + tail, "done")
    loop, executor, recorder = make_loop(model, tmp_path)
    await loop.run()
    assert [s for what, s in executor.log if what == "start"] == ["first"]
    assert model.closed_early == 1
    assert model.read < 100
    assert model.said[0].strip() == "I look.\n" + bash("first").strip()
    assert "42" not in "".join(e.text for e in recorder.of(TextDelta))


async def test_a_create_block_is_finished_before_any_later_block_starts(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    model = ScriptModel("```a.txt:create\nx\n```\n" + bash("cat a.txt") + bash("wc a.txt"), "done")
    loop, executor, recorder = make_loop(model, tmp_path, behave)
    await loop.run()
    assert executor.log[:2] == [("start", "a.txt"), ("end", "a.txt")]
    assert {s for what, s in executor.log[2:4] if what == "start"} == {"cat a.txt", "wc a.txt"}
    kinds = [type(e) for e in recorder.events if isinstance(e, (CodeStart, CodeExecution))]
    assert kinds[:2] == [CodeStart, CodeExecution]


async def test_a_create_block_waits_for_the_blocks_before_it(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        await anyio.lowlevel.checkpoint()

    model = ScriptModel(bash("cd sub") + "```a.txt:create\nx\n```\n", "done")
    loop, executor, _ = make_loop(model, tmp_path, behave)
    await loop.run()
    assert [s for what, s in executor.log] == ["cd sub", "cd sub", "a.txt", "a.txt"]


async def test_the_exit_code_and_both_streams_reach_the_model(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> ActionResult:
        chunks = (OutputChunk("stdout", b"out\n"), OutputChunk("stderr", b"err\n"))
        return ActionResult(status="failed", exit_code=3, chunks=chunks)

    model = ScriptModel(bash("x"), "done")
    loop, _, recorder = make_loop(model, tmp_path, behave)
    await loop.run()
    assert model.results == [
        "[result 1 of 1: bash:execute, failed, exit code 3]\nout\nerr\n[end of result 1]"
    ]
    assert recorder.of(CodeExecution)[0].exit_code == 3


async def test_long_output_is_cut_in_the_middle_with_a_note(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> ActionResult:
        data = b"HEAD" + b"x" * 100_000 + b"TAIL"
        return ActionResult(status="completed", exit_code=0, chunks=(OutputChunk("stdout", data),))

    model = ScriptModel(bash("x"), "done")
    loop, _, _ = make_loop(model, tmp_path, behave, budgets=Budgets(max_result_chars=5000))
    await loop.run()
    text = model.results[0]
    assert len(text) < 5400
    assert "HEAD" in text
    assert "TAIL" in text
    assert "95008 characters were cut here; write long output to a file" in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            "```ruby:execute\nputs 1\n```\n",
            "Blocks in the language 'ruby' cannot be run: bash and python can.",
        ),
        ("```bash:run\nls\n```\n", "'run' is no action: there are execute and create."),
        ("```bash:execute\nls", "The block bash:execute was not closed, so it was not run."),
        (
            "Now:\n\n<!-- first\n\n```bash:execute\nls\n```\n",
            "The block bash:execute was not run: it stands behind '<!--', HTML that is never closed. The forms",
        ),
    ],
)
async def test_an_unknown_or_unclosed_block_is_answered_with_the_three_forms(
    tmp_path: Path, answer: str, says: str
) -> None:
    model = ScriptModel(answer, "done")
    loop, executor, recorder = make_loop(model, tmp_path)
    with anyio.fail_after(5):  # nothing waits for the start of what never starts
        end = await loop.run()
    assert executor.log == []
    assert says in model.results[0]
    assert FORMS in model.results[0]
    assert [e.status for e in recorder.of(CodeExecution)] == ["failed"]
    assert end.stop_reason == "answer"


async def test_an_upper_case_action_runs_like_any_other(tmp_path: Path) -> None:
    model = ScriptModel("```bash:Execute\nls\n```\n", "done")
    loop, executor, _ = make_loop(model, tmp_path)
    await loop.run()
    assert executor.log[0] == ("start", "ls")


async def test_three_rounds_of_nothing_but_rejected_blocks_stop_the_run(tmp_path: Path) -> None:
    model = ScriptModel("```bash:run\nls\n```\n", repeat=True)
    loop, _, _ = make_loop(model, tmp_path)
    end = await loop.run()
    assert (end.stop_reason, model.requests) == ("rejected_blocks", 3)


async def test_a_good_block_between_starts_the_count_of_rejected_rounds_again(tmp_path: Path) -> None:
    bad = "```bash:run\nls\n```\n"
    model = ScriptModel(bad, bad, bash("ok"), bad, bad, "done")
    loop, _, _ = make_loop(model, tmp_path)
    assert (await loop.run()).stop_reason == "answer"


async def test_an_answer_cut_by_the_token_limit_says_so_to_the_model(tmp_path: Path) -> None:
    model = ScriptModel(bash("one") + "```bash:execute\ntwo", "done", finish="length")
    loop, executor, _ = make_loop(model, tmp_path)
    await loop.run()
    assert [s for what, s in executor.log if what == "start"] == ["one"]
    assert "[note: your answer was cut off at the token limit" in model.results[0]


async def test_an_answer_that_never_ends_is_cut(tmp_path: Path) -> None:
    class Endless(ScriptModel):
        async def _events(self, answer: str) -> AsyncIterator[ModelEvent]:
            try:
                while True:
                    self.read += len(answer)
                    yield ModelText(answer)
            finally:
                self.closed_early += 1

    model = Endless("and so on ")
    loop, _, recorder = make_loop(model, tmp_path, budgets=Budgets(max_answer_chars=10_000))
    with anyio.fail_after(20):
        end = await loop.run()
    assert (end.stop_reason, end.error) == (
        "cut",
        "the answer was cut off at 10,000 characters (max_answer_chars)",
    )
    assert (model.read, model.closed_early) == (10_010, 1)
    assert len(end.text) == 10_010
    assert end.usage.output_tokens > 2_000
    assert len(recorder.of(TurnEnd)) == 1
    assert Budgets().max_answer_chars == 16 * 1024 * 1024


async def test_an_answer_of_endless_calls_of_the_callers_own_tools_ends(tmp_path: Path) -> None:
    class Calling(ScriptModel):
        async def _events(self, answer: str) -> AsyncIterator[ModelEvent]:
            while True:
                self.read += 1
                yield ModelToolCall(id=f"c{self.read}", name=answer, arguments="{}")

        def offer(self, tools: Any) -> None:
            pass

        def add_answer(self, text: str, calls: Any = ()) -> None:
            pass

    offers = NativeOffers(taken=["other"])
    loop, _, _ = make_loop(Calling("other"), tmp_path, budgets=Budgets(max_answer_chars=1000), offers=offers)
    with anyio.fail_after(20):
        assert (await loop.run()).stop_reason == "answer"  # the caller carries its own calls out


async def test_blocks_before_the_limit_of_an_answer_run_and_the_model_is_told(tmp_path: Path) -> None:
    model = ScriptModel(bash("one") + "```bash:execute\n" + "x" * 500, "done")
    loop, executor, _ = make_loop(model, tmp_path, budgets=Budgets(max_answer_chars=200))
    assert (await loop.run()).stop_reason == "answer"
    assert [s for what, s in executor.log if what == "start"] == ["one"]
    assert (
        "[note: the answer was cut off at 200 characters (max_answer_chars); what came after the last"
        in model.results[0]
    )


async def test_a_file_that_the_token_limit_cuts_at_an_inner_fence_is_not_written(tmp_path: Path) -> None:
    model = ScriptModel("```a.md:create\n# A\n```sh\nls\n```\n", "done", finish="length")
    loop, executor, _ = make_loop(model, tmp_path)
    await loop.run()
    assert executor.log == []
    assert "[note: your answer was cut off at the token limit" in model.results[0]


INNER = "code\n```\nmore\n```\n"


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
async def test_a_file_that_a_bare_inner_fence_has_cut_is_not_written(
    tmp_path: Path, fence: str, size: int
) -> None:
    text = f"```README.md:create\n# A\n```\n{INNER}Done.\n".replace("```", fence)
    model = ScriptModel(text, "done", piece=size)
    loop, executor, recorder = make_loop(model, tmp_path)
    assert (await loop.run()).stop_reason == "answer"
    assert executor.log == []
    (told,) = recorder.of(CodeExecution)
    assert (told.status, told.code) == ("failed", "# A\n")
    assert "[result 1 of 1: README.md:create, rejected]" in model.results[0]
    assert "was not closed, or a fence in the file ended it, so it was not run" in model.results[0]
    assert "give the block a longer fence (````)" in model.results[0]
    assert "[note:" not in model.results[0]
    assert model.said[0] == "# A".join([f"{fence}README.md:create\n", f"\n{fence}\n"])


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("name", "behind", "noted"),
    [
        ("README.md", "", False),
        ("README.md", "\nIt is written.\n" + INNER, False),
        ("README.md", "I look at it:\n" + bash("cat README.md"), True),
        ("README.md", "It is written.", True),
        ("README.md", "x" * 5000 + "\n" + INNER, True),
        ("a.py", INNER, True),
    ],
)
async def test_a_file_that_perhaps_goes_on_is_written_and_the_model_is_told(
    tmp_path: Path, name: str, behind: str, noted: bool, size: int
) -> None:
    model = ScriptModel(f"```{name}:create\n# A\n```\n{behind}", "done", piece=size)
    loop, executor, recorder = make_loop(model, tmp_path)
    await loop.run()
    assert [e.status for e in recorder.of(CodeExecution)] == ["completed"]
    assert (f"text followed the end of {name!r}" in model.results[0]) is noted
    assert ("longer fence (````)" in model.results[0]) is noted
    assert len(executor.log) == 2
    assert model.read < 4300 + 2 * size


async def test_a_file_is_written_before_the_next_block_is(tmp_path: Path) -> None:
    recorder = Recorder()

    async def wait() -> None:
        with anyio.fail_after(5):
            while not recorder.of(CodeExecution):
                await anyio.sleep(0.001)

    model = ScriptModel(["```README.md:create\n# A\n```\n`", wait, "``bash:execute\nls\n```\n"], "done")
    loop, _, _ = make_loop(model, tmp_path)
    loop.listener = recorder
    await loop.run()
    kinds = [(type(e), e.target) for e in recorder.events if isinstance(e, (CodeStart, CodeExecution))]
    assert kinds == [
        (CodeStart, "README.md"),
        (CodeExecution, "README.md"),
        (CodeStart, "bash"),
        (CodeExecution, "bash"),
    ]


async def test_text_behind_a_call_in_xml_says_nothing_of_fences(tmp_path: Path) -> None:
    call = '<invoke name="README.md:create"><parameter name="content"># A</parameter></invoke> It is done.'
    model = ScriptModel(call, "done")
    loop, _, recorder = make_loop(model, tmp_path)
    loop.notations = Registry().create_notations(["fence", "xml"])
    await loop.run()
    assert [e.status for e in recorder.of(CodeExecution)] == ["completed"]
    assert "fence" not in model.results[0]


async def test_a_model_that_never_stops_is_stopped_by_the_turns(tmp_path: Path) -> None:
    model = ScriptModel(bash("again"), repeat=True)
    loop, executor, _ = make_loop(model, tmp_path)
    end = await loop.run()
    assert (end.stop_reason, end.turns, model.requests) == ("max_turns", 20, 20)
    assert len(executor.log) == 40


async def test_the_token_budget_stops_before_the_next_request(tmp_path: Path) -> None:
    model = ScriptModel(bash("again"), repeat=True)
    loop, _, _ = make_loop(model, tmp_path, budgets=Budgets(max_tokens=250))
    end = await loop.run()
    assert (end.stop_reason, model.requests, end.usage.total_tokens) == ("tokens", 3, 330)


async def test_a_closed_stream_counts_tokens_by_estimate(tmp_path: Path) -> None:
    model = ScriptModel(bash("x") + "prose " * 10, repeat=True)
    loop, _, _ = make_loop(model, tmp_path, budgets=Budgets(max_tokens=20))
    end = await loop.run()
    assert end.stop_reason == "tokens"


async def test_the_wall_time_stops_running_code_and_keeps_its_output(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        emit(b"so far\n")
        await anyio.sleep_forever()

    model = ScriptModel(bash("hang"), "never")
    loop, executor, recorder = make_loop(model, tmp_path, behave, budgets=Budgets(wall_time_s=0.2))
    end = await loop.run()
    assert end.stop_reason == "wall_time"
    assert executor.log[-1] == ("cancelled", "hang")
    assert "so far" in model.results[0]
    assert "the time of this run is over" in model.results[0]
    assert recorder.of(CodeExecution)[0].status == "failed"
    assert loop.transcript.executions[0].status == "cancelled"


async def test_a_cancelled_run_keeps_what_was_done_and_said(tmp_path: Path) -> None:
    running = anyio.Event()

    async def behave(source: str, emit: Any) -> None:
        if source == "hang":
            emit(b"partial \xc3")
            running.set()
            await anyio.sleep_forever()

    model = ScriptModel(bash("quick"), "Now this.\n" + bash("hang"), "never")
    loop, executor, recorder = make_loop(model, tmp_path, behave)
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        await running.wait()
        group.cancel_scope.cancel()
    assert executor.log[-1] == ("cancelled", "hang")
    assert [e.status for e in loop.transcript.executions] == ["completed", "cancelled"]
    assert "partial" in loop.transcript.executions[1].output
    assert recorder.events[-1].stop_reason == "cancelled"  # type: ignore[union-attr]
    assert loop.transcript.messages[-2].content.startswith("Now this.")


async def test_a_broken_stream_keeps_what_was_done_and_raises_the_models_error(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        emit(b"half\n")
        await anyio.sleep_forever()

    wait = anyio.Event()

    async def started() -> None:
        while not executor.log:
            await anyio.lowlevel.checkpoint()
        wait.set()

    model = ScriptModel([bash("work"), started, ModelStreamError("the stream broke")])
    loop, executor, recorder = make_loop(model, tmp_path, behave)
    with pytest.raises(ModelStreamError, match="the stream broke"):
        await loop.run()
    assert executor.log[-1] == ("cancelled", "work")
    assert loop.transcript.executions[0].output.startswith("half")
    assert recorder.events[-1].stop_reason == "error"  # type: ignore[union-attr]


async def test_a_dead_runner_is_told_to_the_model_once_and_then_ends_the_run(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        raise RunnerDiedError("the runner was killed")

    model = ScriptModel(bash("a"), bash("b"), "never")
    loop, _, _ = make_loop(model, tmp_path, behave)
    with pytest.raises(RunnerDiedError):
        await loop.run()
    assert "could not be run to its end: the runner was killed" in model.results[0]
    assert [e.status for e in loop.transcript.executions] == ["error", "error"]


async def test_a_runner_that_died_once_does_not_end_the_run(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        if source == "a":
            raise RunnerDiedError("the runner was killed")

    model = ScriptModel(bash("a"), bash("b"), bash("c"), "done")
    loop, _, _ = make_loop(model, tmp_path, behave)
    assert (await loop.run()).stop_reason == "answer"


async def test_a_closed_executor_ends_the_run_at_once(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        raise ExecutorClosedError("closed")

    model = ScriptModel(bash("a"), "never")
    loop, _, _ = make_loop(model, tmp_path, behave)
    with pytest.raises(ExecutorClosedError):
        await loop.run()
    assert model.requests == 1


async def test_a_broken_executor_plugin_raises_its_own_exception_not_a_group(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        raise ZeroDivisionError("plugin bug")

    loop, _, recorder = make_loop(ScriptModel(bash("a"), "never"), tmp_path, behave)
    with pytest.raises(ZeroDivisionError):
        await loop.run()
    assert len(recorder.of(CodeExecution)) == 1


async def test_live_output_is_decoded_across_chunks_and_streams(tmp_path: Path) -> None:
    async def behave(source: str, emit: Any) -> None:
        euro = "€".encode()
        emit(euro[:1])
        emit("é".encode()[:1], "stderr")
        emit(euro[1:])
        emit("é".encode()[1:], "stderr")

    loop, _, recorder = make_loop(ScriptModel(bash("a"), "done"), tmp_path, behave)
    await loop.run()
    shown = [(e.stream, e.text) for e in recorder.events if e.type == "code_output"]
    assert shown == [("stdout", "€"), ("stderr", "é")]


async def test_events_come_in_the_order_of_what_happened(tmp_path: Path) -> None:
    loop, _, recorder = make_loop(ScriptModel("Look:\n" + bash("ls"), "Done."), tmp_path)
    await loop.run("task")
    kinds = [e.type for e in recorder.events if e.type not in ("text_delta", "code_delta")]
    assert kinds == ["run_start", "code_start", "code_execution", "turn_end", "turn_end", "run_end"]


async def test_a_block_of_five_megabytes_runs(tmp_path: Path) -> None:
    body = "x" * (5 * 1024 * 1024)
    model = ScriptModel(f"```big.txt:create\n{body}\n```\n", "done", piece=65536)
    loop, executor, _ = make_loop(model, tmp_path)
    await loop.run()
    assert executor.log[0] == ("start", "big.txt")


# --- code while it is written --------------------------------------------------------------------

CODE = "echo one\n\nif true; then echo two; fi\n"
WRITTEN = {
    "fence": ("```bash:execute\n{code}```\n", "```Notes.md:create\n{text}```\n"),
    "xml": (
        '<invoke name="bash:execute">\n<parameter name="command">{code}</parameter>\n</invoke>\n',
        '<invoke name="Notes.md:create">\n<parameter name="content">{text}</parameter>\n</invoke>\n',
    ),
}


@pytest.mark.parametrize("names", [["fence"], ["xml"], ["fence", "xml"]], ids="+".join)
@pytest.mark.parametrize("piece", [1, 2, 7, 40, 10_000])
async def test_code_is_told_while_it_is_written_under_the_id_of_its_block(
    names: list[str], piece: int, tmp_path: Path
) -> None:
    command, note = (text.format(code=CODE, text="hello\n" * 9) for text in WRITTEN[names[-1]])
    answer = f"I look `bash:execute` up.\n\n```text\nno code\n```\n\n{command}{note}"
    loop, _, recorder = make_loop(ScriptModel(answer, "done", piece=piece), tmp_path)
    loop.notations = Registry().create_notations(names)
    await loop.run()
    for start in recorder.of(CodeStart):
        before = recorder.events[: recorder.events.index(start)]
        deltas = [e for e in before if isinstance(e, CodeDelta) and e.id == start.id]
        told = "".join(delta.text for delta in deltas)
        assert {(delta.action, delta.target) for delta in deltas} <= {(start.action, start.target)}
        assert told.startswith(start.code) or start.code.startswith(told)
        assert len(told) > len(start.code) - piece
    assert len(recorder.of(CodeStart)) == 2
    assert {e.id for e in recorder.of(CodeDelta)} <= {e.id for e in recorder.of(CodeStart)}
    shown = "".join(e.text for e in recorder.of(TextDelta))
    assert "no code" in shown
    assert "hello" not in shown
