"""The rows of a fleet's status, as text: for the table on a terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agentd_ray.status import FleetStatus, HostStatus

__all__ = ["HOST_COLUMNS", "SESSION_COLUMNS", "STATES", "duration", "headline", "host_row", "session_rows"]

STATES: Final = ("running", "idle", "leaving", "asleep", "waiting")
HOST_COLUMNS: Final = (
    "host", "node", "running", "idle", "leaving", "memory", "free", "loop late", "runs", "failed", "turns", "cost",
    "up",
)  # fmt: skip
SESSION_COLUMNS: Final = ("conversation", "host", "state", "for", "answers", "tokens", "cost")


def headline(status: FleetStatus) -> str:
    """Return a line about a whole fleet."""
    states = status.states
    parts = [f"{states[state]} {state}" for state in STATES if states[state]]
    hosts = sum(not host.is_spare for host in status.hosts)
    many = "1 host" if hosts == 1 else f"{hosts} hosts"
    said = f"fleet {status.fleet}: {many}, {', '.join(parts) or 'no sessions'}"
    if (driver := status.driver) is None:
        return said
    lost = "1 host" if driver.hosts_lost == 1 else f"{driver.hosts_lost} hosts"
    said += f"; {driver.taken} of {driver.places} places taken, {driver.moved} moved, {lost} lost"
    old = f" (as of {duration(driver.age_s)} ago: its driver may be gone)" if driver.age_s > 30 else ""
    return said + old


def host_row(host: HostStatus) -> tuple[str, ...]:
    """Return a host's row, by `HOST_COLUMNS`."""
    if host.error:
        return (host.name or "?", host.node[:12], host.error, *[""] * (len(HOST_COLUMNS) - 3))
    states = host.states
    return (
        f"{host.name} (spare)" if host.is_spare else host.name,
        host.node[:12],
        *(str(states[state]) for state in ("running", "idle", "leaving")),
        f"{host.memory_mib:,.0f} MiB",
        f"{host.free_mib:,.0f} MiB",
        f"{1000 * host.loop_lag_s:.0f} ms",
        f"{host.runs:,}",
        f"{host.failed:,}",
        f"{host.turns:,}",
        _money(host.cost_usd),
        duration(host.up_s),
    )


def session_rows(status: FleetStatus) -> Iterator[tuple[str, ...]]:
    """Yield the rows of all sessions, by `SESSION_COLUMNS`; those that run the longest first."""
    every = [(session, host) for host in status.hosts for session in host.sessions]
    for session, host in sorted(every, key=lambda pair: (pair[0].state != "running", -pair[0].since_s)):
        yield (
            session.conversation,
            host.name,
            session.state,
            duration(session.since_s),
            str(session.answers),
            f"{session.tokens:,}",
            _money(session.cost_usd),
        )


def duration(seconds: float) -> str:
    """Return seconds for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _money(amount: float | None) -> str:
    return "" if amount is None else f"${amount:.2f}"
