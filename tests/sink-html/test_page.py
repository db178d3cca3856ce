"""The page shows what was said and does nothing of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from agentd import SyncSession
from agentd.events import (
    CodeExecution,
    CodeOutput,
    CodeStart,
    Picture,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    TurnEnd,
    as_dict,
)
from agentd.types import Usage
from agentd_sink_html.page import page
from agentd_sink_html.sink import HtmlSink
from agentd_sink_html.trace import Traces
from script_model import ScriptModel

EVIL = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e"


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page_of(*events: object) -> str:
    traces = Traces()
    for number, event in enumerate(events):
        traces.add(as_dict(event), 1000.0 + number)  # type: ignore[arg-type]
    return page(traces.runs)


def test_nothing_that_a_model_code_or_a_tool_said_becomes_markup() -> None:
    text = page_of(
        RunStart(task=EVIL, model=EVIL, executor=EVIL),
        TextDelta(EVIL),
        CodeStart(id="1", code=EVIL, target="python"),
        ToolCall(id="2", name=EVIL, arguments=EVIL, result=EVIL, code_id="1", decision=EVIL),
        CodeExecution(id="1", code=EVIL, output=EVIL, status="failed", target="python", exit_code=1),
        CodeStart(id="3", code=EVIL, action="create", target=EVIL),
        CodeExecution(id="3", code=EVIL, output=EVIL, status="completed", action="create", target=EVIL),
        TurnEnd(turn=1),
        RunEnd(text=f"[a](javascript:alert(1)) ![b](http://127.0.0.1/x) {EVIL}", error=EVIL),
    )
    tags = _Tags(text).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [tag for tag, _ in tags if tag in ("img", "iframe", "object", "form", "base")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    links = [attributes.get("href") or "" for _, attributes in tags]
    assert not [link for link in links if link.strip().lower().startswith(("javascript", "vbscript", "file"))]
    assert not [tag for tag, attributes in tags if "src" in attributes]  # nothing is loaded
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_page_allows_its_own_script_alone() -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page_of(RunStart()))
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]+'", policy.replace("&#39;", "'"))


def test_a_file_that_was_written_twice_shows_its_difference() -> None:
    def write(number: int, code: str) -> CodeExecution:
        return CodeExecution(
            id=str(number), code=code, output="", status="completed", action="create", target="a.md"
        )

    text = page_of(RunStart(), write(1, "one\ntwo\n"), write(2, "one\nthree\n"), RunEnd())
    plain = re.sub(r"<[^>]*>", "", text)
    assert "-two\n+three" in plain
    assert "written 2 times" in plain


def test_figures_stand_on_top() -> None:
    usage = Usage(input_tokens=12345, output_tokens=6, requests=1, cost_usd=0.25)
    text = page_of(RunStart(), TurnEnd(turn=1, usage=usage), RunEnd(stop_reason="max_turns", usage=usage))
    assert "12,345" in text
    assert "$0.2500" in text
    assert 'badge bad">max_turns' in text
    assert "at least" not in text
    assert "at least $0.2500" in page_of(RunStart(), RunEnd(usage=usage + Usage(requests=1)))


@pytest.mark.parametrize(
    ("cost", "shown"),
    [(int("9" * 400), "$1.000E+400"), (float("inf"), "$Infinity"), (float("nan"), "$NaN"), (0, "$0.0000")],
    ids=["400 digits", "infinite", "not a number", "nothing"],
)
def test_a_cost_that_is_none_is_shown_in_few_characters(cost: float, shown: str) -> None:
    usage = {"cost_usd": cost, "input_tokens": 10**399}
    traces = Traces()
    traces.add({"type": "turn_end", "usage": usage}, 0.0)
    traces.add({"type": "run_end", "usage": usage}, 1.0)
    text = page(traces.runs)
    assert f"<dd>{shown}</dd>" in text
    assert "<dd>1.000E+399</dd>" in text


@pytest.mark.parametrize("name", ["a\0.png", "a\ud800.png"])
def test_a_picture_whose_path_no_file_can_have_is_told_by_its_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / ".agentd" / "pictures"
    folder.mkdir(parents=True)
    picture = {
        "name": "the-chart",
        "path": str(folder / name),
        "mime_type": "image/png",
        "width": 3,
        "height": 2,
    }
    traces = Traces()
    traces.add({"type": "picture", **picture}, 0.0)
    text = page(traces.runs)
    assert "the-chart" in text
    assert "<img" not in text


def test_a_huge_output_is_cut_in_the_page() -> None:
    text = page_of(
        RunStart(), CodeExecution(code="x" * 10**6, output="y" * 10**6, status="completed"), RunEnd()
    )
    assert len(text) < 600_000
    assert "800,000 characters are not shown" in text


def test_one_thing_that_is_left_out_is_told_of_in_the_singular() -> None:
    from agentd_sink_html.texts import SHOWN

    logs = [SourceLog(source="s", text="x")] * 1_001
    one = page_of(RunStart(), *logs, CodeExecution(code="", output="y" * (SHOWN + 1), status="completed"))
    assert "1 more line was logged" in one
    assert "[... 1 character is not shown ...]" in one
    assert "2 more lines were logged" in page_of(RunStart(), *logs, logs[0])


def test_several_runs_have_a_list_with_a_link_to_each() -> None:
    events = [RunStart(task=f"{EVIL}-first"), RunEnd(), RunStart(task="second")]
    text = page_of(*events)
    links = [attributes.get("href") for tag, attributes in _Tags(text).tags if tag == "a"]
    sections = [attributes.get("id") for tag, attributes in _Tags(text).tags if tag == "section"]
    assert links == ["#run1", "#run2"]
    assert {"run1", "run2"} <= set(sections)
    assert "2 runs</summary>" in text
    assert "<nav>" not in page_of(*events[:2])


def test_a_session_writes_a_page_for_each_run(tmp_path: Path) -> None:
    sink = HtmlSink(tmp_path / "pages")
    model = ScriptModel("```bash:execute\necho from-the-block\n```", "All is done.", "Once more.")
    with SyncSession(model=model, cwd=tmp_path / "w", executor="subprocess", sinks=[sink]) as session:
        session.ask("First.")
        session.ask("Second.")
    first, second = (path.read_text() for path in sink.paths)
    assert "from-the-block" in first
    assert "All is done." in first
    assert "Once more." in second
    assert {path.stat().st_mode & 0o777 for path in sink.paths} == {0o600}


def test_one_file_holds_all_runs_of_a_sink(tmp_path: Path) -> None:
    sink = HtmlSink(tmp_path / "runs.html")
    for word in ("one", "two"):
        sink.emit(RunStart(task=word))
        sink.emit(RunEnd())
    sink.close()
    assert sink.paths == [tmp_path / "runs.html"]
    text = sink.paths[0].read_text()
    assert text.count('<section class="run"') == 2
    assert list(tmp_path.iterdir()) == sink.paths


def test_the_file_that_a_link_names_holds_the_page_and_the_link_stays(tmp_path: Path) -> None:
    link, file = tmp_path / "runs.html", tmp_path / "elsewhere"
    link.symlink_to(file)
    sink = HtmlSink(link)
    sink.emit(RunStart(task="through the link"))
    sink.close()
    assert link.is_symlink()
    assert "through the link" in file.read_text()


def test_a_run_of_more_events_than_are_kept_as_they_came_is_on_its_page_as_any_other(tmp_path: Path) -> None:
    sink = HtmlSink(tmp_path)
    sink.emit(RunStart(task="many"))
    sink.emit(CodeStart(id="1", code="seq 3000", target="bash"))
    for number in range(3_000):
        sink.emit(CodeOutput(id="1", text=f"line{number}\n"))
    sink.emit(CodeOutput(id="1", text="x" * (1 << 20) + "the end"))
    sink.close()
    text = sink.paths[0].read_text()
    assert "many" in text
    assert "xthe end" in text


def test_a_run_without_an_end_is_written_when_the_sink_closes(tmp_path: Path) -> None:
    sink = HtmlSink(tmp_path)
    sink.emit(RunStart(task="broken off"))
    sink.close()
    assert "its end is not known" in sink.paths[0].read_text()


def test_a_disk_that_takes_no_page_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = HtmlSink(tmp_path / "gone" / "a.html")
    (tmp_path / "gone").rmdir()
    sink.emit(RunStart())
    sink.emit(RunEnd())
    sink.close()
    assert "the run goes on" in caplog.text
    assert not sink.paths


def test_a_picture_that_was_shown_is_in_the_page_and_no_other_file_is(tmp_path: Path) -> None:
    folder = tmp_path / ".agentd" / "pictures"
    folder.mkdir(parents=True)
    good, text, link, other = folder / "a.png", folder / "b.png", folder / "c.png", tmp_path / "d.png"
    for file in (good, other):
        file.write_bytes(b"\x89PNG and the rest")
    text.write_text("a secret")
    link.symlink_to(good)

    def shown(path: Path, code: str = "1") -> Picture:
        return Picture(
            name=EVIL, path=str(path), mime_type="image/png", width=3, height=2, size_bytes=9, code_id=code
        )

    done = CodeExecution(id="1", code="show()", output="", status="completed", target="python")
    pictures = [shown(good), shown(text), shown(link), shown(other), shown(good, "")]
    page_text = page_of(
        RunStart(), CodeStart(id="1", code="show()", target="python"), done, *pictures, RunEnd()
    )
    images = [attributes for tag, attributes in _Tags(page_text).tags if tag == "img"]
    assert [(image["src"] or "")[:22] for image in images] == ["data:image/png;base64,"] * 2
    assert page_text.count("3 x 2 pixels") == 5
    assert "a secret" not in page_text
