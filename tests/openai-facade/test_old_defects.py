"""Defects of the facade of agentd 0.8.6 that must not come back, each under its own name.

Those that the other files of this folder name already: caller's messages changed, chat streaming,
`with_options()`, a sync client inside a running loop, system messages made of parts, `./logs`, two clients
that meet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ways import WAYS, call, text_of

every_way = pytest.mark.parametrize("way", WAYS)


def run(way: str, serve: Any, patched: Any, *answers: Any, **more: Any) -> tuple[Any, Any]:
    server = serve(*answers)
    return call(way, patched(server, asynchronous=way.startswith("async")), **more), server


def last_results(server: Any) -> str:
    """Return the last results message that the model was sent."""
    request = server.requests[-1]
    found = [m["content"] for m in request.get("messages") or request["input"] if m.get("role") == "user"]
    return str(found[-1])


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


@every_way
def test_async_bash_is_bash_and_keeps_its_state(way: str, serve: Any, patched: Any) -> None:
    first = bash("export A=kept; mkdir -p sub; cd sub; f() { echo fun; }")
    _, server = run(way, serve, patched, first, bash("[[ $A == kept ]] && f; basename $PWD"), "done")
    assert "fun\nsub\n" in last_results(server)


@every_way
def test_a_block_does_not_vanish_from_the_history(way: str, serve: Any, patched: Any) -> None:
    _, server = run(way, serve, patched, "Look:\n" + bash("echo unique-block"), "done")
    assert "echo unique-block" in json.dumps(server.requests[1])


@every_way
def test_blocks_side_by_side_do_run_at_the_same_time(way: str, serve: Any, patched: Any) -> None:
    meet = "touch {0}; for i in $(seq 1000); do [ -e {1} ] && break; sleep 0.01; done; [ -e {1} ] && echo met"
    _, server = run(
        way, serve, patched, bash(meet.format("a", "b")) + "\n" + bash(meet.format("b", "a")), "done"
    )
    assert last_results(server).count("\nmet\n") == 2


@every_way
def test_blocks_behind_prose_are_not_run(way: str, serve: Any, patched: Any) -> None:
    _, server = run(way, serve, patched, bash("echo one") + "Then:\n" + bash("echo two"), "done")
    assert "one" in last_results(server)
    assert "two" not in server.bodies[1].decode()


@every_way
def test_an_upper_case_action_does_not_loop_for_ever(way: str, serve: Any, patched: Any) -> None:
    outcome, server = run(way, serve, patched, "```bash:Execute\necho up\n```\n", "done")
    assert text_of(way, outcome) == "done"
    assert "up" in last_results(server)


@every_way
def test_inner_fences_do_not_cut_a_file_short(way: str, serve: Any, patched: Any, tmp_path: Path) -> None:
    answer = "````README.md:create\n# T\n```bash:execute\nls\n```\nend\n````\n"
    server = serve(answer, "done")
    call(way, patched(server, asynchronous=way.startswith("async"), cwd=tmp_path))
    assert (tmp_path / "README.md").read_text() == "# T\n```bash:execute\nls\n```\nend\n"


@every_way
def test_example_fences_in_markdown_are_not_run(way: str, serve: Any, patched: Any) -> None:
    text = "Write it so:\n````markdown\n```bash:execute\necho example\n```\n````\nThat is all."
    outcome, server = run(way, serve, patched, text)
    assert len(server.requests) == 1
    assert text_of(way, outcome) == text


@pytest.mark.parametrize(
    "block",
    [
        "```bash:execute\r\necho ran\r\n```\r\n",
        "````bash:execute\necho ran\n````\n",
        "```bash:execute   \necho ran\n```   \n",
        "~~~bash:execute\necho ran\n~~~\n",
        "```sh:execute\nif true; then echo ran; fi\n```\n",
    ],
)
def test_every_way_to_write_a_fence_runs(block: str, serve: Any, patched: Any) -> None:
    _, server = run("sync-chat-stream", serve, patched, block, "done")
    assert "completed, exit code 0]\nran" in last_results(server)


@every_way
def test_an_unknown_action_does_not_burn_twenty_turns(way: str, serve: Any, patched: Any) -> None:
    server = serve("```bash:run\nls\n```\n", repeat=True)
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert len(server.requests) == 3
    assert "there are execute and create" in json.dumps(server.requests[2])
    if way.endswith("whole"):
        assert outcome.whole.agentd["stop_reason"] == "rejected_blocks"


@every_way
def test_exit_codes_reach_the_model(way: str, serve: Any, patched: Any) -> None:
    _, server = run(way, serve, patched, bash("exit 7"), "done")
    assert "failed, exit code 7]" in last_results(server)


def test_include_usage_does_not_raise(serve: Any, patched: Any) -> None:
    outcome, _ = run(
        "sync-chat-stream", serve, patched, bash("true"), "done", stream_options={"include_usage": True}
    )
    assert [c.usage.total_tokens for c in outcome.items if c.usage] == [220]
    assert outcome.items[-1].choices == []


def test_lines_with_sandbox_or_srt_on_stderr_are_not_dropped(serve: Any, patched: Any) -> None:
    _, server = run("sync-chat-whole", serve, patched, bash("echo 'srt: sandbox says no' >&2"), "done")
    assert "srt: sandbox says no" in last_results(server)


def test_output_that_is_no_utf8_does_not_fail(serve: Any, patched: Any) -> None:
    outcome, server = run("sync-responses-stream", serve, patched, bash(r"printf 'a\xff\xfeb'"), "done")
    assert "a��b" in last_results(server)
    assert text_of("sync-responses-stream", outcome) == "done"


def test_no_temporary_files_show_up_in_the_workspace(serve: Any, patched: Any, tmp_path: Path) -> None:
    server = serve(bash("ls -A") + "```python:execute\nimport os; print(os.listdir())\n```\n", "done")
    call("sync-chat-whole", patched(server, cwd=tmp_path))
    visible = [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert visible == []


def test_a_huge_output_does_not_reach_the_model_whole(serve: Any, patched: Any) -> None:
    _, server = run(
        "sync-chat-stream", serve, patched, bash("head -c 3000000 /dev/zero | tr '\\0' x"), "done"
    )
    assert len(last_results(server)) < 45_000
    assert "characters were cut here" in last_results(server)
