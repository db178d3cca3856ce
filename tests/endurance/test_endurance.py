"""`make endurance`: what it calls growth and loss, and a real run that finds both and goes on after Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd_daemon.journal import Journal
from agentd_testing.processes import wait_until_gone

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from endurance import cli
from endurance.measuring import BOUNDS, disk_of, look_at
from endurance.model import answer_to, bash, task
from endurance.recording import Record
from endurance.report import as_json, as_markdown, as_text, is_good, rows, write_into
from endurance.trend import Bound, trend_of
from endurance.triggers import LedgerBook, TriggerLedger
from endurance.works import DEFAULT, WORKS
from endurance.world import Tally

RUN = Path(__file__).with_name("run.py")
PATIENCE_S = 90.0
BOUND = Bound(per_hour=4, floor=6)


def life(values: list[float], every_s: float = 60.0, since: float = 0.0) -> list[tuple[float, float]]:
    return [(since + n * every_s, value) for n, value in enumerate(values)]


# --- growth ------------------------------------------------------------------------------------------------------


def test_noise_with_spikes_is_flat_and_a_slow_climb_through_it_grows() -> None:
    dice = random.Random(1)
    noise = [100 + dice.gauss(0, 2) + 80 * (dice.random() < 0.1) for _ in range(300)]
    flat = trend_of([life(noise)], BOUND)
    climb = trend_of([life([value + n * 8 / 60 for n, value in enumerate(noise)])], BOUND)
    assert flat is not None
    assert climb is not None
    assert (flat.verdict, climb.verdict) == ("flat", "grows")
    assert -1 < flat.low < flat.per_hour < flat.high < 1
    assert 7 < climb.per_hour < 9
    assert 4 < climb.low < climb.per_hour < climb.high


def test_what_grows_at_the_beginning_alone_is_flat_and_so_is_a_restart_that_is_larger() -> None:
    begins = [float(min(n, 20)) for n in range(100)]
    found = trend_of([life(begins)], BOUND)
    assert found is not None
    assert found.verdict == "flat"
    restarted = trend_of([life([50.0] * 40), life([90.0] * 40, since=3600.0)], BOUND)
    assert restarted is not None
    assert (restarted.per_hour, restarted.verdict, restarted.last) == (0.0, "flat", 90.0)


def test_what_begins_to_grow_late_is_told_and_what_comes_in_a_step_is_none() -> None:
    dice = random.Random(1)
    noise = [100 + dice.gauss(0, 1) for _ in range(360)]  # six hours
    verdicts = []
    for since in (360, 285, 300):
        found = trend_of([life([value + max(0, n - since) for n, value in enumerate(noise)])], BOUND)
        assert found is not None
        verdicts.append(found.verdict)
    assert verdicts == ["flat", "late", "late"], "60 an hour for the last 75 or 60 minutes"
    step = trend_of([life([value + 90 * (n > 300) for n, value in enumerate(noise)])], BOUND)
    assert step is not None
    assert (step.verdict, round(step.most) > 180) == ("flat", True)
    record = Record(hours=6, seed=1, works=[])
    record.samples = [(60.0 * n, "serve", "1@2", {"fds": 40.0 + max(0, n - 285)}) for n in range(360)]
    assert is_good(record, rows(record)), "it may be a wave: run longer"
    assert " late" in as_text(record, rows(record))


def test_short_lives_give_a_slope_together_and_too_few_samples_give_none() -> None:
    lives = [life([10.0 + n for n in range(20)], every_s=30, since=1000.0 * k) for k in range(5)]
    found = trend_of(lives, BOUND)
    assert found is not None
    assert (found.verdict, round(found.per_hour)) == ("grows", 120)
    assert trend_of([life([1.0] * 5)], BOUND) is None
    assert trend_of([], BOUND) is None


def test_growth_that_a_run_is_too_short_to_tell_is_not_called_flat_without_saying_so() -> None:
    found = trend_of([life([10.0, 11.0] * 30, every_s=1.0)], BOUND)
    assert found is not None
    assert found.least > 400, "six descriptors in a minute would have been the least"


def test_a_process_is_looked_at_from_outside_and_a_folder_is_counted(tmp_path: Path) -> None:
    here = look_at(os.getpid())
    assert 5 < here["pss_mib"] <= here["rss_mib"]
    assert here["threads"] >= 1
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
    try:  # those of a process of its own: here, the collector closes what other tests have left
        with (
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=opened) as more,
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as fewer,
        ):
            for process in (more, fewer):  # that has loaded all it loads
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(b"x\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"x\n"
            assert look_at(more.pid)["fds"] - look_at(fewer.pid)["fds"] == 7
    finally:
        for descriptor in opened:
            os.close(descriptor)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(os.urandom(100_000))
    assert disk_of(tmp_path)["files"] == 1
    assert disk_of(tmp_path)["mib"] == pytest.approx(0.1, rel=0.2)
    (tmp_path / "deep" / "kept" / "here").mkdir(parents=True)
    (tmp_path / "deep" / "kept" / "here" / "file").write_bytes(os.urandom(100_000))
    assert disk_of(tmp_path, "d*/kept")["files"] == 1
    assert disk_of(tmp_path, "d*/kept")["mib"] == pytest.approx(0.2, rel=0.2)


# --- the model ---------------------------------------------------------------------------------------------------


def test_a_task_is_answered_by_the_script_that_it_carries_answer_by_answer() -> None:
    dice = random.Random(1)
    said: list[dict[str, Any]] = [
        {"role": "user", "content": task("an older one")},
        {"role": "assistant", "content": "x"},
    ]
    said += [{"role": "user", "content": [{"type": "text", "text": task("one", bash("true"))}]}]
    answers = []
    for _ in range(3):
        answers.append(answer_to({"model": "scripted", "messages": said}, dice).text)
        said += [{"role": "assistant", "content": answers[-1]}, {"role": "user", "content": "results"}]
    assert answers == ["one", bash("true"), "well"]
    assert (
        answer_to(
            {"messages": [{"role": "user", "content": task({"text": "x", "status": 503})}]}, dice
        ).status
        == 503
    )


# --- loss --------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as made:
        yield made


def do(
    journal: Journal, agent: str, uri: str, content: str, *, previous: str = "", state: Any = "done"
) -> str:
    """Accept a task and settle it."""
    origin: Any = "subscription" if uri.startswith("file:") else "trigger"
    taken = journal.accept(agent, origin=origin, uri=uri, content=content, digest=content, previous=previous)
    journal.begin(taken.id)
    journal.settle(taken.id, state=state)
    return taken.id


def test_what_was_accepted_and_run_is_no_loss_and_what_was_not_run_is(
    journal: Journal, tmp_path: Path
) -> None:
    tally = Tally()
    ledger = TriggerLedger(tmp_path / "journal.db", tally)
    ledger.file_made("a.txt")
    ledger.file_made("b.txt")
    ledger.page_written("file:///page", "2")
    first = do(journal, "hooks", "trigger:hooks", "{}")
    ledger.accepted(first)
    ledger.accepted("zzzz")
    do(journal, "inbox", "trigger:inbox", 'Files have changed in "/x":\ncreated: "a.txt"')
    do(journal, "watcher", "file:///page", "1", previous="0")
    do(journal, "watcher", "file:///page", "2", previous="1")
    ledger.read()
    ledger = TriggerLedger(
        tmp_path / "journal.db", tally, LedgerBook(**json.loads(json.dumps(ledger.book.as_data())))
    )
    ledger.read()
    assert tally.counts["triggers_run"] == 4
    assert ledger.open_ends() == ["the task zzzz", "the file b.txt"]
    ledger.settle()
    assert tally.counts["triggers_lost"] == 2


def test_a_gap_between_two_contents_and_a_minute_without_the_clock_are_losses(
    journal: Journal, tmp_path: Path
) -> None:
    tally = Tally()
    ledger = TriggerLedger(tmp_path / "journal.db", tally)
    do(journal, "watcher", "file:///page", "1", previous="0")
    do(journal, "watcher", "file:///page", "3", previous="2")
    for minute, more in (
        (1, ""),
        (2, ""),
        (5, " Missed before that, and made up for by this one: 2"),
        (7, ""),
    ):
        do(
            journal,
            "clock",
            "trigger:clock",
            f"Due at 2026-11-30 10:{minute:02}:00+00:00 (UTC), by '* * * * *'.{more}",
        )
    do(journal, "hooks", "trigger:hooks", "{}", state="failed")
    ledger.read()
    assert tally.counts["triggers_lost"] == 2
    gap, minute, failed = tally.errors
    assert "ended with '1', this one begins with '2'" in gap
    assert "did not fire between 2026-11-30 10:05:00" in minute
    assert "is failed" in failed


# --- a run -------------------------------------------------------------------------------------------------------


def test_each_kind_of_work_has_a_name_of_its_own_and_none_that_does_wrong_is_done_unasked() -> None:
    assert len(DEFAULT) == len(set(DEFAULT))
    assert set(WORKS) - set(DEFAULT) == {"leaks-on-purpose", "loses-on-purpose"}
    assert set(BOUNDS) == {"rss_mib", "pss_mib", "fds", "threads", "watches", "processes", "mib", "files"}


def start(folder: Path, minutes: float, *more: str) -> subprocess.Popen[str]:
    works = ["--only", "leaks-on-purpose", "loses-on-purpose"]
    command = [sys.executable, str(RUN), "--folder", str(folder), "--minutes", str(minutes), *more, *works]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_finds_a_leak_and_a_lost_trigger_and_goes_on_where_ctrl_c_has_stopped_it(
    tmp_path: Path,
) -> None:
    folder, state, figures = tmp_path / "run", tmp_path / "run" / "run.json", tmp_path / "figures.json"
    with start(folder, 5) as first:
        end = time.monotonic() + PATIENCE_S
        while (so_far := Record.load(state)) is None or not so_far.lives("host", "fds"):
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < end, "no sample came"
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        said = first.communicate(timeout=PATIENCE_S)[0]
    assert first.returncode == 130, said
    assert "the same command goes on" in said
    with start(folder, 0.13, "--json", str(figures)) as second:
        said = second.communicate(timeout=PATIENCE_S)[0]
    assert second.returncode == 1, said
    found = json.loads(figures.read_text())
    assert found["starts"] == 2
    assert not found["good"]
    trends = {(trend["of"], trend["figure"]): trend for trend in found["trends"]}
    assert trends["host", "fds"]["verdict"] == "grows", said
    assert trends["host", "fds"]["low"] > 1000
    assert trends["host", "threads"]["verdict"] == "flat"
    assert found["counts"]["triggers_lost"] >= 1
    assert "outlived" not in found["counts"]
    assert [wrong for wrong in found["wrong"] if "lost: " not in wrong] == []
    assert wait_until_gone(str(folder), 10) == []


def test_a_short_run_says_that_what_fills_up_to_a_limit_grows_too() -> None:
    record = Record(hours=1, seed=1, works=[])
    record.samples = [(5.0 * n, "serve", "1@2", {"fds": 43.0 + 3 * n}) for n in range(60)]
    record.spent_s = 300
    assert "Run longer to tell." in as_text(record, rows(record))
    record.spent_s = 601
    assert "GROWS" in (said := as_text(record, rows(record)))
    assert "Run longer" not in said


def test_less_than_an_hour_is_not_put_into_the_documentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- endurance -->\nold\n<!-- /endurance -->\n")
    monkeypatch.setattr(cli, "PAGE", page)
    monkeypatch.setattr(cli, "EnduranceRun", None)  # nothing is to run
    folder = tmp_path / "run"
    assert cli.main(["--minutes", "1", "--write", "--folder", str(folder)]) == 2
    assert "nothing is written of less than an hour" in capsys.readouterr().err
    assert not folder.exists(), "it is told before anything runs"
    folder.mkdir()
    for spent_s, told in ((3599.0, True), (3600.0, False)):
        record = Record(hours=1, seed=1, works=[])
        record.spent_s = spent_s
        record.save(folder / "run.json")
        cli.main(["--report", "--write", "--folder", str(folder)])
        assert ("nothing is written" in capsys.readouterr().err) is told
        assert ("old" in page.read_text()) is told


def test_the_figures_are_written_between_the_marks_of_their_page(tmp_path: Path) -> None:
    record = Record(hours=1, seed=1, works=[], spent_s=3600, starts=1)
    record.samples = [(60.0 * n, "daemon", "1@2", {"fds": 43.0}) for n in range(60)]
    record.counts.update(sessions=7)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- endurance -->\nold\n<!-- /endurance -->\nbelow\n")
    trends = rows(record)
    write_into(page, as_markdown(record, trends))
    text = page.read_text()
    assert "| daemon | descriptors | 43 | 43 | +0 |" in text
    assert "| sessions | 7 |" in text
    assert "| triggers lost | 0 |" in text
    assert text.startswith("above")
    assert text.endswith("below\n")
    assert "old" not in text
    assert is_good(record, trends)
    assert not is_good(
        Record(hours=1, seed=1, works=[], counts=record.counts + type(record.counts)(wrong=1)), trends
    )


def test_runs_of_several_machines_are_reported_as_one_and_no_life_goes_on_in_the_next(tmp_path: Path) -> None:
    def run(fds: float, grown: float, **counts: int) -> Record:
        record = Record(hours=2, seed=1, works=["chat"], spent_s=3600, starts=2, finished=True)
        record.samples = [(60.0 * n, "daemon", "1@2", {"fds": fds + grown * n}) for n in range(60)]
        record.counts.update(counts)
        return record

    first, second = run(43, 0, sessions=7), run(90, 0, sessions=8)
    files = []
    for number, one in enumerate((first, second)):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(as_json(one, rows(one))))
    whole = run(60, 0, sessions=1).behind([Record.of_figures(path) for path in files])
    ((_, _, trend),) = rows(whole)
    assert (trend.per_hour, trend.verdict, trend.most) == (0, "flat", 90)
    assert (whole.spent_s, whole.hours, whole.starts, whole.counts["sessions"]) == (3 * 3600, 3, 6, 16)
    assert is_good(whole, rows(whole))
    growing = run(60, 5, wrong=1)
    growing.wrong = ["it was"]
    assert growing.behind([first]).wrong == ["it was"]
    first.pythons, second.pythons, second.finished = ["3.11.7"], ["3.13.1"], False
    both = second.behind([first])
    text = as_markdown(both, [])
    assert "Python 3.11.7, 3.13.1, " in text
    assert "at the end (not over, so that nobody waited for what was accepted last)." in text
    assert "good; not over" in as_text(both, [])
    again = tmp_path / "unfinished.json"
    again.write_text(json.dumps(as_json(second, [])))
    assert (Record.of_figures(again).finished, Record.of_figures(again).pythons) == (False, ["3.13.1"])
    assert not is_good(first.behind([growing]), [])
    assert not is_good(run(60, 5).behind([run(60, 5)]), rows(run(60, 5).behind([run(60, 5)])))
    long = run(40, 0)
    long.samples = [(60.0 * n, "daemon", "1@2", {"fds": 40.0}) for n in range(240)]
    outnumbered = long.behind([run(40, 0.5)])
    assert not is_good(outnumbered, rows(outnumbered))
    files[0].write_text('{"spent_s": 1}')
    with pytest.raises(ValueError, match=r"0\.json has no figures of a run"):
        Record.of_figures(files[0])
