"""A person talks with an agent at a terminal."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from agentd_demo.replay import ReplayFault
from chat_person import LOOKS, WRITES, block, model

Agentd = Talk = Any  # the fixtures' classes
PRICES = "model.prices.replayed=[1000, 2000]"


def test_a_turn_is_shown_and_the_next_one_knows_of_it(agentd: Agentd, talk: Talk) -> None:
    server = model(agentd, WRITES, "Done, **all** of it.", LOOKS, "So it is.")
    person = talk("chat")
    person.told("model replayed, executor subprocess; /help lists the commands")
    person.say("write a file")
    person.told("Done, all of it.")
    person.say("which colour?")
    person.told("So it is.")
    assert any("│ green in sub" in row for row in person.everything())
    assert person.leave() == 0
    person.told("agentd chat --continue goes on")
    assert "which colour?" in server.requests[2].last
    assert (agentd.cwd / "sub" / "made.txt").read_text() == "one\n"
    assert not any("WARNING" in row for row in person.everything())


@pytest.mark.slow
def test_bare_agentd_on_a_terminal_is_a_chat_and_in_a_pipe_the_help(agentd: Agentd, talk: Talk) -> None:
    model(agentd, "Hello.", "Again.")
    person = talk()
    person.say("hello")
    person.told("Hello.")
    person.say("/exit")
    assert person.wait() == 0
    begun = talk("chat", "hello again")
    begun.told("› hello again")
    begun.told("Again.")
    begun.say("/cost")
    begun.told("1, 1 request to the model")
    assert begun.leave() == 0
    piped = agentd()
    assert "Usage: agentd" in piped.stdout + piped.stderr


@pytest.mark.slow
def test_the_last_turn_is_taken_back_with_files_shell_and_what_was_said(agentd: Agentd, talk: Talk) -> None:
    (agentd.cwd / "old.txt").write_text("before\n")
    changes = block(
        "bash:execute", "cd ..; echo after > old.txt; echo new > new.txt; mkdir there; export COLOUR=red"
    )
    server = model(agentd, WRITES, "First.", changes, "Second.", LOOKS, "Third.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.say("two")
    person.told("Second.")
    person.say("/diff")
    for shown in ("new: new.txt", "  -before", "  +after", "changed: old.txt"):
        person.told(shown)
    assert not any("new: sub/made.txt" in row for row in person.everything())
    person.say("/diff all")
    person.told("new: sub/made.txt")
    (agentd.cwd / "mine.txt").write_text("a person's\n")
    person.say("/undo")
    person.told("taken back: 'two'")
    person.told("what was until now is kept as")
    assert (agentd.cwd / "old.txt").read_text() == "before\n"
    assert (agentd.cwd / "sub" / "made.txt").exists()
    assert not (agentd.cwd / "new.txt").exists()
    person.say("three")
    person.told("│ green in sub")
    person.told("Third.")
    person.say("/undo")
    person.told("taken back: 'three'")
    person.say("/undo")
    person.told("taken back: 'one'")
    assert not (agentd.cwd / "sub").exists()
    person.say("/undo")
    person.told("there is no turn to take back")
    assert person.leave() == 0
    said = json.dumps(server.requests[4].body)
    assert "three" in said
    assert "two" not in said


@pytest.mark.slow
def test_ctrl_c_stops_the_turn_and_says_what_was_not_done(agentd: Agentd, talk: Talk) -> None:
    waits = block("bash:execute", "echo here > done.txt; echo started; sleep 100")
    server = model(agentd, waits, "I see.")
    person = talk("chat")
    person.say("wait")
    person.told("│ started")
    person.type("\x03")
    person.told("not finished: bash:execute")
    assert (agentd.cwd / "done.txt").exists()
    person.say("what happened?")
    person.told("I see.")
    assert "started" in json.dumps(server.requests[1].body)
    assert person.leave() == 0


def test_ctrl_c_at_the_prompt_clears_the_input_and_twice_on_an_empty_one_leaves(
    agentd: Agentd, talk: Talk
) -> None:
    model(agentd, "Never.")
    person = talk("chat")
    person.at_prompt()
    person.type("something")
    person.see("› something")
    person.type("\x03")
    person.at_prompt()
    person.type("\x03")
    person.see("Ctrl-C again leaves")
    person.type("x\x7f")  # whoever types on stays
    person.see(lambda: not any("Ctrl-C again" in row for row in person.shown()))
    person.type("\x03")
    person.see("Ctrl-C again leaves")
    person.type("\x03")
    assert person.wait() == 0


@pytest.mark.slow
def test_several_lines_are_one_message_typed_or_pasted(agentd: Agentd, talk: Talk) -> None:
    server = model(agentd, "Read.", "Read again.", "And again.")
    person = talk("chat")
    person.at_prompt()
    person.type("one\x1b\rtwo\\\rthree\r")
    person.told("Read.")
    person.at_prompt()
    person.paste("def f():\n    return 1\n")
    person.type("\r")
    person.told("Read again.")
    assert person.leave() == 0
    assert server.requests[0].last == "one\ntwo\nthree"
    assert server.requests[1].last.rstrip() == "def f():\n    return 1"


@pytest.mark.slow
def test_what_it_costs_counts_all_turns_and_what_was_taken_back(agentd: Agentd, talk: Talk) -> None:
    model(agentd, "One.", "Two.")
    person = talk("chat", "-o", PRICES, "--max-cost", "50")
    person.say("/cost")
    person.told("$0.0000 of $50.0000 (--max-cost)")
    for said, answered in (("one", "One."), ("two", "Two.")):
        person.say(said)
        person.told(answered)
    person.say("/undo")
    person.told("taken back: 'two'")
    person.say("/cost")
    person.told("1, 2 requests to the model")
    assert person.leave() == 0
    shown = [row for row in person.everything() if row.startswith("money")]
    assert float(shown[-1].split("$")[1].split()[0]) > 0


@pytest.mark.slow
def test_the_money_is_for_the_whole_conversation_also_after_a_new_start(agentd: Agentd, talk: Talk) -> None:
    server = model(agentd, "One.", "Two.")
    person = talk(
        "chat", "-o", PRICES, "--max-cost", "1.5"
    )  # some 500 tokens in, at 1000 dollars a million: 0.5 each
    person.say("one")
    person.told("One.")
    assert person.leave() == 0
    spent = [row for row in person.everything() if "· $" in row]
    assert spent
    again = talk("chat", "--continue", "-o", PRICES, "--max-cost", "0.001")
    again.say("two")
    again.told("the next request would cost more than is left of the money")
    assert again.leave() == 0
    assert len(server.requests) == 1


@pytest.mark.slow
def test_another_model_goes_on_with_shell_and_conversation(agentd: Agentd, talk: Talk) -> None:
    server = model(agentd, WRITES, "First.", LOOKS, "Second.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.say("/model other")
    person.told("model other from now on")
    person.say("two")
    person.told("│ green in sub")
    person.told("Second.")
    person.say("/model")
    person.told("model other, executor subprocess")
    assert person.leave() == 0
    assert [request.body["model"] for request in server.requests] == [
        "replayed",
        "replayed",
        "other",
        "other",
    ]
    assert "I write it." in json.dumps(server.requests[2].body)
    again = talk("chat", "--continue")
    again.told("model other")
    assert again.leave() == 0


@pytest.mark.slow
def test_jobs_are_listed_with_the_end_of_their_output(agentd: Agentd, talk: Talk) -> None:
    serves = block(
        "bash:execute",
        "job start server -- sh -c 'echo listening; exec sleep 100'",
        "until job out server | grep -q listening; do :; done",
    )
    model(agentd, serves, "It runs.")
    person = talk("chat")
    person.say("/jobs")
    person.told("no jobs")
    person.say("serve")
    person.told("It runs.")
    person.say("/jobs")
    person.told("│ listening")
    person.see(lambda: any(row.startswith("server") and "running" in row for row in person.everything()))
    assert person.leave() == 0


@pytest.mark.slow
def test_taking_back_says_which_jobs_it_has_ended_and_what_git_keeps_is_one_line_of_a_difference(
    agentd: Agentd, talk: Talk
) -> None:
    does = block(
        "bash:execute",
        "job start server -- sleep 100",
        "mkdir -p .git/objects sub/.git .agentd/site; echo x > .git/objects/ab; echo x > sub/.git/HEAD; echo y > new",
        "echo x > .agentd/site/module.py",
    )
    model(agentd, does, "It runs.")
    person = talk("chat")
    person.say("serve")
    person.told("It runs.")
    person.say("/diff")
    person.told("new: new")
    person.told("in .git: 5 added")
    person.told("in .agentd: 3 added")
    assert [row for row in person.everything() if row.startswith("new: ")] == ["new: new", "new: sub"]
    person.say("/undo")
    person.told("ended, as files were replaced: the jobs server")
    person.say("/jobs")
    person.told("no jobs")
    assert person.leave() == 0


@pytest.mark.slow
def test_a_question_of_a_run_stays_on_the_screen_while_the_block_waits(agentd: Agentd, talk: Talk) -> None:
    model(agentd, block("a.txt:create", "words") + "\n\n" + block("b.txt:create", "words"), "Written.")
    person = talk("run", "write them", "--policy", "ask-writes")
    for name in ("a.txt", "b.txt"):
        person.see(f"write the file {name}?")
        person.see(lambda: person.prompt().startswith("allow? [y]es, once"))
        person.type("y\r")
    person.told("Written.")
    assert person.wait() == 0
    asked = [row.rstrip() for row in person.everything() if row.startswith("allow? [y]es")]
    assert [row.rpartition(" ")[2] for row in asked] == ["y", "y"]  # nothing was drawn over them


@pytest.mark.slow
def test_a_policy_asks_while_the_view_is_still_and_goes_on_with_the_answer(
    agentd: Agentd, talk: Talk
) -> None:
    model(
        agentd,
        block("notes.txt:create", "words"),
        "Written.",
        block("more.txt:create", "words"),
        "Not written.",
    )
    person = talk("chat", "--policy", "ask-writes")
    person.say("write it")
    person.told("write the file notes.txt?")
    person.see("allow? [y]es, once")
    assert not (agentd.cwd / "notes.txt").exists()
    person.type("y\r")
    person.told("Written.")
    assert (agentd.cwd / "notes.txt").read_text() == "words\n"
    person.say("another")
    person.see("write the file more.txt?")
    person.type("not now\r")
    person.told("Not written.")
    assert not (agentd.cwd / "more.txt").exists()
    assert person.leave() == 0


@pytest.mark.slow
def test_what_was_typed_before_a_question_is_no_answer_to_it(agentd: Agentd, talk: Talk) -> None:
    waits = block("bash:execute", "echo waiting; until [ -e go ]; do sleep 0.05; done")
    model(agentd, waits, block("notes.txt:create", "words"), "Not written.")
    person = talk("chat", "--policy", "ask-writes")
    person.say("write it")
    person.told("│ waiting")
    person.type("y\r")
    (agentd.cwd / "go").touch()
    person.see("allow? [y]es, once")
    person.type("no\r")
    person.told("Not written.")
    assert not (agentd.cwd / "notes.txt").exists()
    assert person.leave() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_at_the_prompt_ends_the_talk_in_order(
    agentd: Agentd, talk: Talk, number: int, code: int
) -> None:
    model(agentd, WRITES, "First.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.at_prompt()
    os.kill(person.process.pid, number)
    assert person.wait() == code
    person.told("agentd chat --continue goes on")


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_the_talk(agentd: Agentd, talk: Talk) -> None:
    model(agentd, "First.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.at_prompt()
    person.hang_up()
    assert person.wait() in (0, 129, 141)


@pytest.mark.slow
def test_a_provider_that_fails_ends_the_turn_alone(agentd: Agentd, talk: Talk) -> None:
    model(agentd, "Back again.", faults={0: ReplayFault("status", status=401)})
    person = talk("chat")
    person.say("one")
    person.told("401")
    person.say("/undo")
    person.told("there is no turn to take back")
    person.say("two")
    person.told("Back again.")
    assert person.leave() == 0


def test_commands_that_cannot_be_carried_out_say_why(agentd: Agentd, talk: Talk) -> None:
    model(agentd, "Never.")
    person = talk("chat")
    for line, answer in (
        ("/nonsense", "unknown command '/nonsense'"),
        ("/diff some", "takes nothing or 'all', got 'some'"),
        ("/diff", "there is no turn yet"),
        ("/attach missing.txt", "'missing.txt' cannot be attached"),
        ("/model", "model replayed, executor subprocess"),
        ("/help xx", "unknown command '/xx'; there are: /undo"),
        ("/help undo", "take the last turn back"),
        ("/help", "Alt-Enter"),
    ):
        person.say(line)
        person.told(answer)
    assert person.leave() == 0
