"""What wakes the daemons' agents: pages that change, files that come, signed requests, and a new configuration."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import httpx
from standardwebhooks.webhooks import Webhook

from endurance.daemons import DAEMONS, SECRET, page_of, write_config
from endurance.works.servers import kill_newest
from endurance.works.work import Work

__all__ = ["DaemonChanges", "DaemonKills", "DaemonReloads", "ServerKills"]

PAGES = 2
INBOX = 12
"""Files that stay in an inbox."""
SEND_S = 60.0


class _OfDaemons(Work):
    lane = "daemons"
    needs = DAEMONS


class DaemonChanges(_OfDaemons):
    """A page, a file and a webhook for each daemon; a sender that gets no answer sends it again, as senders do."""

    name = "daemon-changes"
    pause_s = 2.0

    def once(self) -> None:
        self.number += 1
        for daemon in DAEMONS:
            self._write_page(daemon)
            if self.number % 2:
                self._make_file(daemon)
            self._send(daemon)

    def _write_page(self, daemon: str) -> None:
        page = page_of(self.world, daemon, self.number % PAGES)
        text = f"{self.number} {uuid.uuid4().hex[:6]}"
        self.place.ledgers[daemon].page_written(f"file://{page}", text)
        fresh = page.with_name(".fresh")
        fresh.write_text(text)
        fresh.replace(page)

    def _make_file(self, daemon: str) -> None:
        inbox = self.place.folder(f"{daemon}/inbox")
        ledger = self.place.ledgers[daemon]
        name = f"note-{uuid.uuid4().hex[:10]}.txt"
        ledger.file_made(name)
        (inbox / name).write_text("news")
        waiting = ledger.book.files
        told = sorted((p for p in inbox.iterdir() if p.name not in waiting), key=lambda p: p.stat().st_mtime)
        for old in told[:-INBOX]:  # one that nobody was told of would never be
            old.unlink()

    def _send(self, daemon: str) -> None:
        id, body = f"msg_{uuid.uuid4().hex}", '{"service": "shop"}'
        self.tally.add(triggers_sent=1)
        end = datetime.now(UTC).timestamp() + SEND_S
        again = False
        while datetime.now(UTC).timestamp() < end:
            at = datetime.now(UTC)
            headers = {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp()))}
            headers["webhook-signature"] = Webhook(SECRET).sign(id, at, body)
            try:
                answer = httpx.post(self.place.ports[daemon], content=body, headers=headers, timeout=30)
            except httpx.TransportError:
                again = True  # killed: whether it was taken, nobody knows
            else:
                if answer.status_code in (200, 202):
                    said = answer.json()
                    if said["duplicate"] and not again:
                        raise AssertionError(f"{id} was taken for one that was there: {said}")
                    self.place.ledgers[daemon].accepted(said["task"])
                    return
                assert answer.status_code == 503, (answer.status_code, answer.text)
            self.place.stop.wait(0.3)
            if self.place.stop.is_set():
                break
        self.tally.add(triggers_given_up=1)


class DaemonReloads(_OfDaemons):
    """Another configuration of the daemon that is never killed, and SIGHUP."""

    name = "daemon-reloads"
    pause_s = 4.0

    def once(self) -> None:
        self.number += 1
        write_config(self.world, "daemon", self.place.ports["daemon"], note=f"Version {self.number % 3}.")
        self.place.programs["daemon"].hang_up()
        self.tally.add(reloads=1)


class ServerKills(_OfDaemons):
    """`kill -9` of an MCP server of a daemon's."""

    name = "server-kills"
    lane = "kills"
    pause_s = 8.0

    def once(self) -> None:
        daemon = self.dice.choice(DAEMONS)
        page = page_of(self.world, daemon, 0)
        self.tally.add(killed_servers=kill_newest(page.parent.with_suffix(".log"), page.parent))


class DaemonKills(_OfDaemons):
    """`kill -9` of a daemon, and its next start."""

    name = "daemon-kills"
    lane = "kills"
    pause_s = 15.0

    def once(self) -> None:
        self.place.programs["daemon-killed"].kill()
        self.tally.add(killed_daemons=1)
