"""The REPL on a real pseudo-terminal, in a process of its own."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from person import Person

pytestmark = pytest.mark.slow

CONTROLS = re.compile(rb"\x1b\]|\x1b\[2J|\x1b\[[0-9;]*n|\x07|\x9b")


@pytest.fixture
def person() -> Iterator[Person]:
    with Person() as someone:
        someone.see("news>")
        assert someone.heard() == ["listen"]
        yield someone


def ends_well(person: Person) -> None:
    """The daemon was asked to stop once, nobody listens in vain, and the terminal echoes again."""
    assert person.heard() == ["stop", 0]
    assert person.heard() == ["returned", False, "True"]
    assert person.wait() == 0
    assert "goodbye" in person.everything()


# --- talking ---


def test_a_line_goes_to_the_current_agent_and_stays_on_the_screen(person: Person) -> None:
    person.type("what is new?\r")
    assert person.heard() == ["submit", "news", "what is new?"]
    person.see(lambda: person.prompt() == "news>" and "news> what is new?" in person.shown())


def test_another_agent_is_addressed_by_its_name_without_switching(person: Person) -> None:
    person.type("mail: any letters?\r")
    assert person.heard() == ["submit", "mail", "any letters?"]
    person.see("mail is parked; it reads t1 after /resume mail")
    person.see(lambda: person.prompt() == "news>")


def test_use_switches_and_the_prompt_says_so(person: Person) -> None:
    person.type("/use mail\r")
    person.see("mail>")
    person.type("hello\r")
    assert person.heard() == ["submit", "mail", "hello"]


@pytest.mark.parametrize("keys", ["one\x1b\rtwo\r", "one\\\rtwo\r"], ids=["alt-enter", "backslash"])
def test_a_message_may_have_several_lines(person: Person, keys: str) -> None:
    person.type(keys)
    assert person.heard() == ["submit", "news", "one\ntwo"]
    person.see("    … two")


def test_a_pasted_text_is_one_message_and_is_sent_by_enter_alone(person: Person) -> None:
    person.paste("def f():\r\n    return 1\r\n/quit\r\n")
    person.see("/quit")
    person.type("what is this?\r")
    assert person.heard() == ["submit", "news", "def f():\n    return 1\n/quit\nwhat is this?"]


def test_pasted_control_characters_do_not_come_back_as_such(person: Person) -> None:
    person.paste("a\x1b]0;title\x07b\x1b[2Jc")
    person.type("!\r")
    assert person.heard()[:2] == ["submit", "news"]
    person.see(lambda: person.prompt() == "news>" and any("c!" in row for row in person.shown()))
    assert not CONTROLS.search(person.raw)


def test_tab_completes_commands_and_agents(person: Person) -> None:
    person.type("/us\t")
    person.see("news> /use")
    person.type("ma\t\r")
    person.see("mail>")
    person.type("new\thi\r")
    assert person.heard() == ["submit", "news", "hi"]


# --- events ---


def test_nothing_is_torn_while_two_agents_print_and_the_person_types() -> None:
    words = "the quick brown fox jumps over the lazy dog"
    with Person(columns=60) as person:
        person.see("news>")
        for number, letter in enumerate(words):
            person.emit("news", "TextDelta", text=f"news line {number:02} of a story that is told\n")
            person.type(letter)
            person.emit("mail", "TextDelta", text=f"mail line {number:02} of another ")
            person.emit("mail", "TextDelta", text="story, in two pieces\n")
            if number % 10 == 9:
                typed = words[: number + 1].rstrip()
                person.see(lambda typed=typed: person.prompt() == f"news> {typed}")  # type: ignore[misc]
        last = f"{len(words) - 1:02}"
        for agent in ("news", "mail"):
            person.see(f"{agent} line {last}")
        person.see(lambda: person.prompt() == f"news> {words}")
        rows = [row for row in person.everything() if "line" in row]
        for agent, story in (("news", "a story that is told"), ("mail", "another story, in two pieces")):
            assert [row for row in rows if row.startswith(agent)] == [
                f"{agent} ┆ {agent} line {number:02} of {story}" for number in range(len(words))
            ]
        assert len(rows) == 2 * len(words)
        person.type("\r/quit\r")
        assert person.wait() == 0


def test_an_unfinished_line_is_seen_as_it_grows_and_the_input_stays(person: Person) -> None:
    person.type("my half")
    person.emit("news", "TextDelta", text="I look")
    person.see("news ┆ I look")
    person.emit("mail", "TextDelta", text="So do I")
    person.see("mail ┆ So do I")
    person.see(lambda: person.prompt() == "news> my half")
    person.emit("news", "TextDelta", text=" at the page.")
    person.see("news ┆ I look at the page.")
    person.type(" question\r")
    assert person.heard() == ["submit", "news", "my half question"]
    person.emit("news", "RunEnd", turns=1)
    person.see("1 turn")
    finished = [row for row in person.everything() if "I look" in row]
    assert finished == ["news ┆ I look at the page."]


def test_a_long_line_is_broken_between_words_and_each_row_has_its_name() -> None:
    with Person(columns=40) as person:
        person.see("news>")
        for word in ("paragraph " * 30).split(" "):
            person.emit("news", "TextDelta", text=f"{word} ")
        person.emit("news", "RunEnd")
        person.see("0 turns")
        rows = [row for row in person.everything() if "paragraph" in row]
        assert set(rows) == {"news ┆ paragraph paragraph paragraph"}
        assert len(rows) == 10


def test_code_and_output_are_shown_as_the_console_shows_them(person: Person) -> None:
    person.emit("news", "RunStart", task="the page changed")
    person.emit("news", "CodeStart", id="a", code="echo hi\n", target="bash")
    person.emit("news", "CodeOutput", id="a", text="hi\n")
    person.emit("news", "CodeExecution", id="a", code="", output="", status="failed", exit_code=3)
    person.see("exit 3")
    rows = "\n".join(person.shown())
    for seen in ("news ┆ ▸ the page changed", "1 · bash", "│ echo hi", "news ┆   │ hi"):
        assert seen in rows
    assert b"\x1b[1;36m" in person.raw  # the agent's name has its colour


def test_what_a_model_says_does_not_steer_the_terminal(person: Person) -> None:
    hostile = "\x1b[2J\x1b]52;c;aGk=\x07\x1b]0;owned\x1b\\\x9b2J\x1b[5n seen\r\n"
    person.emit("news\x1b[2J", "TextDelta", text=hostile)
    person.emit("news", "RunStart", task=hostile)
    for character in hostile:  # also when it arrives in pieces
        person.emit("news", "TextDelta", text=character)
    person.emit("mail", "CodeStart", id="a", code=hostile, target=hostile)
    person.emit("mail", "CodeOutput", id="a", text=hostile)
    person.emit("mail", "RunEnd", error=hostile)
    person.order(ping=1)
    assert person.heard() == ["pong", 1]
    person.type("fail\r")
    person.see("OSError: the disk is full")
    assert not CONTROLS.search(person.raw)


def test_what_the_process_prints_and_logs_goes_above_the_prompt_as_well(person: Person) -> None:
    person.type("half a question")
    person.see("half a question")
    for number in range(20):
        person.order(print=f"printed {number} \x1b[2J")
        person.order(warn=f"logged {number}")
    person.see("logged 19")
    person.see(lambda: person.prompt() == "news> half a question")
    rows = [row for row in person.everything() if "printed" in row or "logged" in row]
    assert sorted(rows) == sorted([f"printed {n}" for n in range(20)] + [f"logged {n}" for n in range(20)])
    assert not CONTROLS.search(person.raw)


def test_a_flood_of_output_is_bounded(person: Person) -> None:
    person.emit("news", "CodeStart", id="a", code="yes", target="bash")
    person.emit("news", "CodeOutput", id="a", text="y\n" * 100_000)
    person.emit("news", "CodeOutput", id="a", text="x" * 3_000_000)
    person.emit("news", "CodeExecution", id="a", code="", output="", status="completed")
    person.see("more lines")
    assert len(person.raw) < 60_000


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_daemon(person: Person) -> None:
    for number in range(10):
        for _ in range(12):
            person.emit("news", "TextDelta", text="0123456789 " * 200 + "\n")
        person.order(ping=number)  # nobody reads from the terminal meanwhile
        assert person.heard() == ["pong", number]
    person.emit("news", "TextDelta", text="the last line\n")
    person.see("the last line")
    assert any("rows that this terminal was too slow for" in row for row in person.everything())
    person.type("hello\r")
    assert person.heard() == ["submit", "news", "hello"]


# --- terminals ---


def test_after_a_resize_rows_have_the_new_width_and_the_input_is_whole(person: Person) -> None:
    person.type("half a question")
    person.see("half a question")
    person.emit("news", "TextDelta", text="before it\n")
    person.see("before it")
    person.resize(40, 12)
    person.see(lambda: person.prompt() == "news> half a question")
    person.emit("news", "TextDelta", text="word " * 20 + "\n")
    person.see(lambda: sum("word" in row for row in person.shown()) == 4)
    person.see(lambda: person.prompt() == "news> half a question")
    person.resize(100, 30)
    person.emit("news", "TextDelta", text="wide " * 20 + "\n")
    person.see(lambda: sum("wide" in row for row in person.shown()) == 2)
    person.type("\r")
    assert person.heard() == ["submit", "news", "half a question"]


def test_a_very_narrow_terminal_still_shows_everything() -> None:
    with Person(columns=12, rows=10) as person:
        person.see("news>")
        person.emit("news", "CodeStart", id="a", code="print('a long line of code')", target="python")
        person.emit("news", "TextDelta", text="abcdefghijklmnopqrstuvwxyz\n")
        person.see(lambda: "z" in "".join(person.shown()))
        text = "".join(row.partition("┆ ")[2] for row in person.everything())
        assert "abcdefghijklmnopqrstuvwxyz" in text
        person.type("/agents\r")
        person.see("news>")
        person.type("quit\r")
        assert person.wait() == 0


def test_no_color_is_respected() -> None:
    with Person(env={"NO_COLOR": "1"}) as plain:
        plain.see("news>")
        plain.emit("news", "CodeStart", id="a", code="echo hi\n", target="bash")
        plain.emit("news", "TextDelta", text="half")
        plain.see("news ┆ half")
        plain.type("/agents\r")
        plain.see("mail: no such server")
        plain.type("/quit\r")
        assert plain.wait() == 0
        # 30-37, 90-97 and 38;... are colours
        assert not re.search(rb"\x1b\[(?:\d+;)*(?:[349][0-7]|38)(?:;\d+)*m", plain.raw)


def test_a_dumb_terminal_gets_text_alone() -> None:
    with Person(env={"TERM": "dumb"}) as person:
        person.see("news>")
        person.type("/us")
        person.see("/us")
        person.emit("news", "TextDelta", text="a line\n")
        person.see("a line")
        person.see(lambda: person.prompt() == "news> /us")
        person.type("e mail\r")
        person.see("mail>")
        person.type("on\x1b\re\r")
        assert [person.heard(), person.heard()] == [["listen"], ["submit", "mail", "on\ne"]]
        person.type("\x03\x04")
        ends = [person.heard(), person.heard()]
        assert ends == [["cancel", "mail", False], ["stop", 0]]
        assert person.wait() == 0
        assert b"\x1b" not in person.raw


# --- Ctrl-C and the ends ---


def test_ctrl_c_clears_the_input_then_cancels_the_turn_then_says_how_to_quit(person: Person) -> None:
    person.order(state="news", **{"is": "running"})
    person.order(ping=1)
    assert person.heard() == ["pong", 1]
    person.type("oops")
    person.see("news> oops")
    person.type("\x03")
    person.see(lambda: person.prompt() == "news>")
    person.type("\x03")
    assert person.heard() == ["cancel", "news", True]
    person.see("cancelled")
    person.type("\x03")
    assert person.heard() == ["cancel", "news", False]
    person.see("to quit: Ctrl-D or /quit")


def test_ctrl_c_ends_the_wait_for_an_answer_of_the_daemon(person: Person) -> None:
    person.type("wait\r")
    assert person.heard() == ["submit", "news", "wait"]
    person.type("\x03")
    person.see("no longer waiting")
    person.type("next\r")
    assert person.heard() == ["submit", "news", "next"]


@pytest.mark.parametrize("keys", ["quit\r", "exit\r", "/quit\r", "\x04"])
def test_quitting_stops_the_daemon_and_gives_the_terminal_back(person: Person, keys: str) -> None:
    person.type(keys)
    ends_well(person)


def test_quit_works_while_the_daemon_does_not_answer(person: Person) -> None:
    person.type("wait\r")
    assert person.heard() == ["submit", "news", "wait"]
    person.type("/quit\r")
    ends_well(person)


def test_ctrl_d_behind_text_does_not_quit(person: Person) -> None:
    person.type("text\x04\r")
    assert person.heard() == ["submit", "news", "text"]


def test_what_was_printed_before_the_end_is_not_lost(person: Person) -> None:
    person.type("/history\r/tools\rquit\r")
    ends_well(person)
    assert any("Get a page." in row for row in person.everything())


def test_a_terminal_that_goes_away_stops_the_daemon(person: Person) -> None:
    person.emit("news", "TextDelta", text="half a ")
    person.see("half a")
    person.hang_up()
    # A session leader whose terminal hangs up gets SIGHUP, too; the program leaves it ignored.
    assert person.heard() == ["stop", 0]


def test_cancelling_gives_the_terminal_back_and_stops_nothing(person: Person) -> None:
    person.type("half a word")
    person.see("half a word")
    person.order(cancel=True)
    assert person.heard() == ["returned", True, "True"]
    assert person.wait() == 0
    assert "goodbye" in person.everything()


# --- commands and errors ---


def test_commands_answer_above_the_prompt(person: Person) -> None:
    for keys, seen in (
        ("/agents", "parked"),
        ("/tools", "Get a page."),
        ("/history 1", "nothing for news"),
        ("/snapshot before", "kept as before; go back with: /rewind before"),
        ("/rewind bef\t", "news is back at before"),
        ("/resume mail", "mail tries again"),
        ("/resume mail", "mail is not parked"),
        ("/help /use", "talk with another agent"),
        ("/approvals", "news: tool send_mail"),
        ("/deny q1 not today", "denied: send_mail"),
        ("/allow q1", "no question 'q1'"),
    ):
        person.type(f"{keys}\r")
        person.see(seen)
        person.see(lambda: person.prompt() == "news>")


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        ("/agnts", "did you mean '/agents'?"),
        ("/use male", "did you mean 'mail'?"),
        ("/rewind nothing", "unknown snapshot 'nothing'"),
        ("/history many", "must be a number from 1 to 1,000, got 'many'"),
        ("fail", "OSError: the disk is full"),
    ],
)
def test_an_error_is_shown_and_the_talk_goes_on(keys: str, seen: str) -> None:
    with Person(columns=240) as person:  # the list of commands in one line
        person.see("news>")
        person.type(f"{keys}\r")
        person.see(seen)
        person.type("still here\r")
        person.see(lambda: person.prompt() == "news>")
        person.type("quit\r")
        assert person.wait() == 0


def test_what_was_typed_is_there_again_after_a_restart_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "repl-history"
    with Person(history=file) as person:
        person.see("news>")
        person.type("a memorable question\rquit\r")
        assert person.wait() == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with Person(history=file) as person:
        person.see("news>")
        person.type("\x1b[A\x1b[A")
        person.see("news> a memorable question")
