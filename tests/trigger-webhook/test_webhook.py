"""The trigger `webhook`: its real server on loopback, real signatures, and senders that mean no good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd_daemon.journal import Journal, JournalError
from agentd_daemon.waking import TriggerWatch
from standardwebhooks.webhooks import Webhook
from triggering import IdleWorker, settle, watch

pytestmark = pytest.mark.anyio
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PLAIN = "a secret of a test, long enough"


@pytest.fixture
def anyio_backend() -> str:
    """The daemon is asyncio's."""
    return "asyncio"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as made:
        yield made


@attrs.frozen
class Place:
    """A webhook that listens."""

    url: str
    worker: IdleWorker
    watch: TriggerWatch
    client: httpx.AsyncClient

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    async def send(
        self, body: bytes | str = b'{"deployed": 1}', id: str = "msg_1", ago_s: float = 0, **more: str
    ) -> httpx.Response:
        """Send a delivery as Standard Webhooks has it."""
        content = body.encode() if isinstance(body, str) else body
        return await self.client.post(
            self.url, content=content, headers={**signed(content, id, ago_s), **more}
        )


def signed(body: bytes, id: str = "msg_1", ago_s: float = 0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(id, at, body.decode()),
    }


def github(body: bytes, secret: str = PLAIN) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


@asynccontextmanager
async def listening(
    journal: Journal, caplog: pytest.LogCaptureFixture, waiting: int = 100, **options: Any
) -> AsyncIterator[Place]:
    given = {
        key: value for key, value in {"port": 0, "secret": SECRET, **options}.items() if value is not None
    }
    worker = IdleWorker()
    watched = watch(
        lambda: Registry().create_trigger("webhook", given), journal, worker=worker, max_waiting=waiting
    )
    heard = anyio.Event()

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "listens at" in record.getMessage():
                self.url = re.search(r"http://\S+", record.getMessage())[0]  # type: ignore[index]
                heard.set()

    handler, log = Hearing(), logging.getLogger("agentd.daemon.webhook")
    log.addHandler(handler)
    caplog.set_level(logging.INFO, log.name)
    try:
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=0
        )  # all at once, if a test wants that
        client_of_all = httpx.AsyncClient(timeout=60, limits=limits)
        async with client_of_all as client, anyio.create_task_group() as group:
            group.start_soon(watched.run)
            with anyio.fail_after(30):
                await heard.wait()
            yield Place(handler.url, worker, watched, client)
            group.cancel_scope.cancel()
    finally:
        log.removeHandler(handler)


# --- what is taken -----------------------------------------------------------------------------------


async def test_a_signed_request_is_in_the_journal_when_it_is_answered(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog) as place:
        answer = await place.send()
        (task,) = journal.pending("a")
    assert (answer.status_code, answer.json()) == (202, {"task": task.id, "duplicate": False})
    assert (task.content, task.origin, task.uri) == ('{"deployed": 1}', "trigger", "trigger:test")
    assert place.worker.woken == 1


async def test_a_delivery_that_is_sent_again_is_answered_with_the_same_task_and_taken_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog) as place:
        first = await place.send()
        settle(journal, place.worker)
        again = await place.send(ago_s=1)
        other = await place.send(id="msg_2")
    assert (again.status_code, again.json()) == (200, {"task": first.json()["task"], "duplicate": True})
    assert other.json()["duplicate"] is False
    assert len(journal.recent("a")) == 2


async def test_fifty_repetitions_at_once_are_one_task(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: list[int] = []
    async with listening(journal, caplog) as place:

        async def send() -> None:
            statuses.append((await place.send()).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(send)
    assert sorted(statuses) == [200] * 49 + [202]
    assert len(journal.pending("a")) == 1


async def test_the_form_of_github_is_taken_and_the_same_body_under_another_id_is_the_same_delivery(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"action": "opened"}'
    async with listening(journal, caplog, signature="github", secret=PLAIN) as place:
        headers = {**github(body), "X-GitHub-Event": "issues", "X-GitHub-Delivery": "1"}
        first = await place.client.post(place.url, content=body, headers=headers)
        again = await place.client.post(
            place.url, content=body, headers={**headers, "X-GitHub-Delivery": "2"}
        )
    assert (first.status_code, again.status_code) == (202, 200)
    (task,) = journal.pending("a")
    assert task.content == "X-GitHub-Event (not signed): 'issues'\n" + body.decode()


async def test_slack_is_answered_that_we_are_there_if_its_question_is_signed_and_its_events_are_taken_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def slack(body: str, secret: str = PLAIN) -> dict[str, str]:
        at = str(int(datetime.now(UTC).timestamp()))
        mac = hmac.new(secret.encode(), f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={mac}"}

    asked = '{"type": "url_verification", "challenge": "3eZbrw1aB10u", "token": "x"}'
    event = '{"type": "event_callback", "event_id": "Ev1", "event": {"text": "hi"}}'
    async with listening(journal, caplog, signature="slack", secret=[SECRET, PLAIN]) as place:

        async def post(body: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
            answer = await place.client.post(place.url, content=body, headers=headers)
            return answer.status_code, answer.json()

        assert await post(asked, slack(asked)) == (200, {"challenge": "3eZbrw1aB10u"})
        status, said = await post(asked, slack(asked, "of somebody else, who is curious"))
        assert (status, "3eZbrw1aB10u" in str(said)) == (401, False)
        assert journal.pending("a") == [], "neither is an event"
        assert (await post(event, slack(event)))[0] == 202
        assert (await post(event, slack(event, SECRET)))[0] == 200, "sent again, by the other secret: known"
    assert [task.content for task in journal.pending("a")] == [event]


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ago_s", [400, -400])
async def test_a_request_of_another_time_is_refused(
    journal: Journal, caplog: pytest.LogCaptureFixture, ago_s: float
) -> None:
    async with listening(journal, caplog) as place:
        answer = await place.send(ago_s=ago_s)
    assert answer.status_code == 401
    assert "timestamp too" in answer.json()["error"]
    assert journal.pending("a") == []


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,not base64!"},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook-signature": "v2," + base64.b64encode(bytes(32)).decode()},
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-timestamp": "1700000000"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "now"},
    ],
)
async def test_a_request_whose_signature_is_not_right_is_refused(
    journal: Journal, caplog: pytest.LogCaptureFixture, changed: dict[str, str]
) -> None:
    async with listening(journal, caplog) as place:
        answer = await place.send(**changed)
        assert (await place.send()).status_code == 202, "and the next one is served"
    assert answer.status_code == 401
    assert SECRET not in answer.text + caplog.text
    assert len(journal.pending("a")) == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-hub-signature-256": ""}, {"x-hub-signature-256": "sha1=00"}, github(b"{}", "another secret")],
)
async def test_the_form_of_github_is_refused_without_a_right_signature(
    journal: Journal, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    async with listening(journal, caplog, signature="github", secret=PLAIN) as place:
        answer = await place.client.post(place.url, content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert journal.pending("a") == []


async def test_a_signed_body_that_is_no_text_is_refused(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"\xff\xfe"
    async with listening(journal, caplog, signature="github", secret=PLAIN) as place:
        answer = await place.client.post(place.url, content=body, headers=github(body))
    assert (answer.status_code, answer.json()) == (400, {"error": "the body must be text in UTF-8"})


async def test_other_paths_and_methods_are_refused(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog, path="/hooks/deploy") as place:
        get = await place.client.get(place.url)
        other = await place.client.post(place.url.replace("deploy", "other"), content=b"{}")
    assert (get.status_code, get.headers["allow"], other.status_code) == (405, "POST", 404)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(
    journal: Journal, caplog: pytest.LogCaptureFixture, chunked: bool
) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield bytes(65_536)

    async with listening(journal, caplog, max_body_bytes=1000) as place:
        assert (await place.send(b"x" * 1000)).status_code == 202
        if chunked:
            try:
                answer = await place.client.post(place.url, content=pieces(), headers=signed(b""))
                assert answer.status_code == 413
            except httpx.TransportError:
                pass  # the connection is closed while we write
            assert sent < 1000 * 65_536
        else:
            assert (await place.send(b"x" * 1001)).status_code == 413
    assert len(journal.pending("a")) == 1


async def test_a_body_that_comes_too_slowly_is_refused_and_others_are_served_meanwhile(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog, body_s=0.5) as place:
        slow = await anyio.connect_tcp("127.0.0.1", place.port)
        async with slow:
            await slow.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1")
            assert (await place.send()).status_code == 202
            with anyio.fail_after(30):
                answer = await slow.receive()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_sender_that_hangs_up_in_its_body_leaves_the_next_one_served(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog) as place:
        for _ in range(20):
            async with await anyio.connect_tcp("127.0.0.1", place.port) as gone:
                await gone.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1")
        assert (await place.send()).status_code == 202
    assert "Traceback" not in caplog.text


async def test_a_full_queue_is_told_with_a_time_to_come_again_and_takes_more_when_there_is_room(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog, waiting=2) as place:
        assert [(await place.send(id=f"msg_{n}")).status_code for n in range(3)] == [202, 202, 503]
        full = await place.send(id="msg_2")
        assert (full.status_code, int(full.headers["retry-after"]) > 0) == (503, True)
        assert (await place.send(id="msg_1")).status_code == 200, "what is known needs no room"
        settle(journal, place.worker)
        assert (await place.send(id="msg_2")).status_code == 202
    assert len(journal.recent("a")) == 3


async def test_what_cannot_be_journalled_is_not_acknowledged(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog) as place:
        journal.close()  # the real journal, which refuses now
        answer = await place.send()
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert "closed" in place.watch.error
    with pytest.raises(JournalError):
        journal.pending("a")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_thousand_at_once_are_each_taken_or_told_to_come_again_and_then_all_are_there(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of them with wrong signatures. Who is told to come again, or is hung up on, comes again, some at a time."""
    left = set(range(1000))
    async with listening(journal, caplog, waiting=1000) as place:

        async def send(number: int, turn: anyio.CapacityLimiter) -> None:
            good = number % 2 == 0
            more = {} if good else {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()}
            async with turn:
                try:
                    answer = await place.send(id=f"msg_{number}", **more)
                except httpx.TransportError:
                    return
            assert answer.status_code in ((200, 202, 503) if good else (401, 503))
            if answer.status_code != 503:
                left.discard(number)

        for at_once in (1000, *[48] * 50):
            turn = anyio.CapacityLimiter(at_once)
            async with anyio.create_task_group() as group:
                for number in sorted(left):
                    group.start_soon(send, number, turn)
            if not left:
                break
    assert not left
    assert len(journal.pending("a")) == 500
    assert place.worker.woken == 500


# --- where it listens, and its secret ----------------------------------------------------------------


async def test_it_listens_on_loopback_alone_and_no_more_when_it_has_ended(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(journal, caplog) as place:
        assert httpx.URL(place.url).host == "127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", place.port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.port))


async def test_a_port_that_is_taken_is_told_in_the_status_with_what_to_do(journal: Journal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        trigger = Registry().create_trigger("webhook", {"port": port, "secret": SECRET})
        watched = watch(trigger, journal)
        async with anyio.create_task_group() as group:
            group.start_soon(watched.run)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert watched.error.startswith(
        f"cannot listen at 127.0.0.1, port {port}: Address already in use; each webhook"
    )


async def test_with_once_nothing_is_listened_to(journal: Journal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # it would fail
        trigger = Registry().create_trigger("webhook", {"port": taken.getsockname()[1], "secret": SECRET})
        await watch(trigger, journal, once=True).once()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_secret_in_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="others can read or write it; chmod 600") as caught:
        Registry().create_trigger("webhook", {"port": 1, "secret_file": str(file)})
    assert SECRET not in str(caught.value)


def test_a_secret_in_a_private_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    Registry().create_trigger("webhook", {"port": 1, "secret_file": str(file)})


async def test_a_secret_is_changed_without_a_gap_and_a_file_that_is_spoilt_meanwhile_changes_nothing(
    journal: Journal, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    new = "another secret, which is long enough"

    def write(text: str) -> None:
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").chmod(0o600)
        file.with_suffix(".new").rename(file)

    write(f"{PLAIN}\n")
    async with listening(journal, caplog, signature="github", secret=None, secret_file=str(file)) as place:

        async def taken(body: bytes) -> list[bool]:
            answers = [
                await place.client.post(place.url, content=text, headers=github(text, secret))
                for secret, text in ((PLAIN, body), (new, body + b" of the new"))
            ]
            return [answer.status_code == 202 for answer in answers]

        assert await taken(b"1") == [True, False]
        write(f"{PLAIN}\n{new}\n")
        assert await taken(b"2") == [True, True]
        write("short\n")
        assert await taken(b"3") == [True, True]
        write(f"{new}\n")
        assert await taken(b"4") == [False, True]
    assert "the secrets that it had before hold on" in caplog.text
    assert all(secret not in caplog.text for secret in (PLAIN, new, "short\n"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secret": SECRET}, "option 'port' of the trigger 'webhook' is missing"),
        ({"port": 1}, "option 'secret' of the trigger 'webhook': must be given"),
        ({"port": 1, "secret": SECRET, "secret_file": "x"}, "one of the two"),
        ({"port": 1, "secret_file": "/nowhere/at/all"}, "cannot be read: No such file"),
        ({"port": 1, "secret_file": "/dev/null"}, "must be a file"),
        ({"port": 1, "secret": "whsec_dG9vIHNob3J0"}, "must be `whsec_` and at least 16 bytes"),
        ({"port": 1, "secret": "no prefix and no base64"}, "must be `whsec_`"),
        ({"port": 1, "secret": "short", "signature": "github"}, "at least 16 characters"),
        ({"port": 70_000, "secret": SECRET}, "must be from 0 to 65535, got 70000"),
        ({"port": 1, "secret": SECRET, "path": "hook"}, "must begin with '/'"),
        ({"port": 1, "secret": SECRET, "path": "/%61"}, "have no '\\?', '#', '%' or blank"),
        ({"port": 1, "secret": SECRET, "signature": "md5"}, "signature"),
        ({"port": 1, "secret": SECRET, "max_body_bytes": 10**9}, "max_body_bytes"),
        ({"port": 1, "secret": SECRET, "tls": True}, "unknown option 'tls'"),
    ],
)
def test_wrong_options_are_refused_before_anything_listens(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Registry().create_trigger("webhook", options)
    assert all(secret not in str(caught.value) for secret in (SECRET, "no prefix", "dG9vI"))


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ({}, {}, True),
        ({"path": "/a"}, {"path": "/b"}, True),
        ({"host": "localhost"}, {"host": "127.1"}, True),
        ({"host": "0.0.0.0"}, {"host": "192.0.2.1"}, True),
        ({"host": ""}, {"host": "LOCALHOST"}, True),
        ({"host": "::"}, {"host": "0:0::1"}, True),
        ({"host": "my.example"}, {"host": "My.example"}, True),
        ({"host": "::"}, {"host": "0.0.0.0"}, False),
        ({"host": "127.0.0.1"}, {"host": "127.0.0.2"}, False),
        ({"port": 1}, {"port": 2}, False),
        ({"port": 0}, {"port": 0}, False),
    ],
)
def test_two_that_would_listen_at_one_port_of_one_address_clash(
    one: dict[str, Any], other: dict[str, Any], clashes: bool
) -> None:
    first, second = (
        Registry().create_trigger("webhook", {"port": 8787, "secret": SECRET, **options})
        for options in (one, other)
    )
    assert bool(first.clash(second)) == bool(second.clash(first)) == clashes
    assert not first.clash(object())
