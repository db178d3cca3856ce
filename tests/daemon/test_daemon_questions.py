"""What becomes of a question while the daemon lives, in this process: answered, parked, over, asked again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentd.events import Approval
from agentd_daemon.config.values import BudgetsConfig
from agentd_daemon.journal import Journal, JournalledQuestion, LateAnswerError
from agentd_demo.replay import ReplayServer
from living import Living, agent, living

pytestmark = pytest.mark.anyio

FILE = "```{0}:create\n{1}\n```\n"
ONE = FILE.format("one.txt", "1")
PARKS = ("daemon", {"hold_s": 0.1})
Asking = Callable[..., Any]


def asking(tmp_path: Path, model: ReplayServer, **keys: Any) -> Any:
    """An agent whose files are asked about."""
    keys = {"policy": {"default": "ask"}, **keys}
    return agent(model, mode="ptc", cwd=str(tmp_path / "work"), **keys)


async def asked(daemon: Living, state: str = "open") -> JournalledQuestion:
    """Wait for a question, and return it."""
    return await daemon.until(lambda: next((q for q in daemon.daemon.questions() if q.state == state), None))


async def waiting(daemon: Living) -> JournalledQuestion:
    """Wait until the agent waits for an answer, and return the question."""
    await daemon.until(lambda: daemon.status().state == "waiting")
    return await asked(daemon, "parked")


def decisions(daemon: Living) -> list[str]:
    return [event.decision for _, event in daemon.events if isinstance(event, Approval) and event.decision]


async def test_without_an_approver_the_daemon_asks_and_the_event_has_the_id_to_answer(tmp_path: Path) -> None:
    with ReplayServer([ONE, "Done."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model)) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await asked(daemon)
            assert question.until - question.asked_at == pytest.approx(7 * 86_400)
            assert daemon.status().questions == (question.id,)
            events = [event for _, event in daemon.events if isinstance(event, Approval)]
            assert [event.id for event in events] == [question.id]
            told = daemon.daemon.answer(question.id, allowed=True, reason="why not")
            assert told == "allowed: one.txt; its call goes on"
            await daemon.runs_end(1)
            assert daemon.status().questions == ()
            with pytest.raises(LateAnswerError, match="it was allowed by a person at the prompt"):
                daemon.daemon.answer(question.id, allowed=False)
            assert decisions(daemon) == ["allowed by a person at the prompt"]
    assert (tmp_path / "work" / "one.txt").read_text().strip() == "1"


async def test_a_parked_task_goes_on_with_its_answer_and_is_told_what_happened(tmp_path: Path) -> None:
    with ReplayServer([ONE, ONE, "Done."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model, approver=PARKS)) as daemon:
            id = await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            trigger = daemon.journal.get(id)
            assert trigger is not None
            assert (trigger.state, trigger.error) == ("pending", "waiting for an answer")
            assert (daemon.status().turns, len(daemon.journal.turns(id))) == (1, 1), (
                "what was not asked costs nothing"
            )
            assert daemon.daemon.answer(question.id, allowed=True) == "allowed: one.txt; its task goes on"
            (done,) = await daemon.settled(1)
        assert (done.state, done.attempts, done.result) == ("done", 2, "Done.")
        assert (tmp_path / "work" / "one.txt").exists()
        first = f"nobody has answered the question {question.id} within 0.1 s: this task is parked now"
        assert any(first in str(message) for message in model.requests[1].messages)
        assert (
            "a person at the prompt has allowed it: made again, it is carried out" in model.requests[1].last
        )
        assert len(model.requests) == 3
        assert decisions(daemon) == ["denied by the daemon", "allowed by a person at the prompt"]


async def test_a_denial_of_a_parked_task_reaches_the_same_call_without_another_question(
    tmp_path: Path,
) -> None:
    with ReplayServer([ONE, ONE, "Well."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model, approver=PARKS)) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            daemon.daemon.answer(question.id, allowed=False, reason="not that one")
            (done,) = await daemon.settled(1)
            assert daemon.journal.question(question.id).taken
        assert done.state == "done"
        assert "a person at the prompt has denied it (not that one)" in model.requests[1].last
        assert "the file was not written: not that one" in model.requests[2].last
    assert not (tmp_path / "work" / "one.txt").exists()


async def test_another_call_than_the_one_that_was_allowed_is_asked_about(tmp_path: Path) -> None:
    other = FILE.format("one.txt", "2")
    with ReplayServer([ONE, other, "Done."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model, approver=PARKS)) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            first = await waiting(daemon)
            daemon.daemon.answer(first.id, allowed=True)
            await daemon.asked(model, 2)
            second = await waiting(daemon)
            assert second.id != first.id
            assert second.arguments.strip() == "2"
            assert not daemon.journal.question(first.id).taken
    assert not (tmp_path / "work" / "one.txt").exists()


async def test_what_is_allowed_for_the_session_stays_allowed_when_the_task_was_parked(tmp_path: Path) -> None:
    two = FILE.format("two.txt", "2")
    with ReplayServer([ONE, two, ONE + two, "Done."]) as model:
        config = asking(tmp_path, model, approver=("daemon", {"hold_s": 1.0}))
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write files.")
            daemon.daemon.answer((await asked(daemon)).id, allowed=True, scope="session")
            question = await waiting(daemon)
            assert question.name == "two.txt"
            daemon.daemon.answer(question.id, allowed=True)
            (done,) = await daemon.settled(1)
        assert (done.state, len(model.requests)) == ("done", 4)


async def test_resume_lets_a_parked_task_go_on_without_an_answer_and_its_call_asks_the_same_question(
    tmp_path: Path,
) -> None:
    with ReplayServer([ONE, ONE, "Done."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model, approver=PARKS)) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            assert daemon.daemon.resume("news")
            await daemon.asked(model, 2)
            assert "There is no answer yet: made again, it waits for that" in model.requests[1].last
            assert (await waiting(daemon)).id == question.id
            daemon.daemon.answer(question.id, allowed=False)


async def test_a_question_that_nobody_answers_in_time_is_denied_and_its_task_goes_on(tmp_path: Path) -> None:
    policy = {"default": "ask", "timeout_s": 1.5}
    with ReplayServer([ONE, "Well."]) as model:
        async with living(
            tmp_path / "state", asking(tmp_path, model, policy=policy, approver=PARKS)
        ) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            (done,) = await daemon.settled(1)
            assert done.state == "done"
            assert "Nobody has answered in time: it stays denied" in model.requests[1].last
            with pytest.raises(LateAnswerError, match="nobody has answered in time"):
                daemon.daemon.answer(question.id, allowed=True)


async def test_a_cancelled_task_leaves_no_question(tmp_path: Path) -> None:
    with ReplayServer([ONE, "Done."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model)) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await asked(daemon)
            assert daemon.daemon.cancel("news")
            await daemon.settled(1)
            assert daemon.daemon.questions() == []
            with pytest.raises(LateAnswerError, match="its task has ended"):
                daemon.daemon.answer(question.id, allowed=True)


async def test_a_task_whose_time_ends_over_a_question_is_parked_and_not_failed(tmp_path: Path) -> None:
    with ReplayServer([ONE, ONE, "Done."]) as model:
        config = asking(tmp_path, model, budgets=BudgetsConfig(wall_time_s=1.0))
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            daemon.daemon.answer(question.id, allowed=True)
            (done,) = await daemon.settled(1)
    assert (done.state, done.result) == ("done", "Done.")


async def test_a_question_that_the_disk_has_no_room_for_is_denied_with_the_reason(tmp_path: Path) -> None:
    def no_room(journal: Journal) -> None:
        with journal.read("fill") as connection:
            connection.execute(
                "CREATE TEMP TRIGGER full BEFORE INSERT ON main.questions BEGIN SELECT RAISE(FAIL, 'full'); END"
            )

    with ReplayServer([ONE, "Well."]) as model:
        async with living(tmp_path / "state", asking(tmp_path, model)) as daemon:
            no_room(daemon.journal)
            await daemon.daemon.submit("news", "Write a file.")
            await daemon.runs_end(1)
        assert (
            "the question could not be kept: could not keep a question in the journal"
            in model.requests[1].last
        )
    assert not (tmp_path / "work" / "one.txt").exists()


# --- a webhook -----------------------------------------------------------------------------------


@contextmanager
def webhook(*answers: dict[str, Any] | int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give these answers, a number being a status, then none until the end. Yields the address and what was asked."""
    asked: list[dict[str, Any]] = []
    waiting = list(answers)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if not waiting:
                over.wait()
                return
            answer = waiting.pop(0)
            body = json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_webhook_that_fails_is_asked_again_and_denies_nothing(tmp_path: Path) -> None:
    with ReplayServer([ONE, "Done."]) as model, webhook(500, {"answer": "once"}) as (url, posts):
        config = asking(tmp_path, model, approver=("webhook", {"url": url}))
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            await daemon.runs_end(1)
            assert decisions(daemon) == ["allowed by the webhook"]
    assert [post["name"] for post in posts] == ["one.txt", "one.txt"]
    assert posts[0] == posts[1]
    assert (tmp_path / "work" / "one.txt").exists()


async def test_the_prompt_answers_before_the_webhook_does(tmp_path: Path) -> None:
    with ReplayServer([ONE, "Done."]) as model, webhook() as (url, posts):
        config = asking(tmp_path, model, approver=("daemon", {"url": url}))
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await asked(daemon)
            await daemon.until(lambda: posts)
            assert posts[0]["id"] == question.id
            daemon.daemon.answer(question.id, allowed=True)
            await daemon.runs_end(1)


async def test_a_webhook_is_asked_while_the_task_is_parked_and_wakes_it(tmp_path: Path) -> None:
    with ReplayServer([ONE, ONE, "Done."]) as model, webhook() as (url, posts):
        config = asking(tmp_path, model, approver=("daemon", {"url": url, "hold_s": 0.5}))
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write a file.")
            question = await waiting(daemon)
            await daemon.until(lambda: len(posts) == 2)
            assert (posts[1]["id"], posts[1]["details"].strip()) == (question.id, "1")
            daemon.daemon.answer(question.id, allowed=True)
            (done,) = await daemon.settled(1)
            assert done.state == "done"
