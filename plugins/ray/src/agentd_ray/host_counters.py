"""What a host counts, for `Fleet.status` and for Ray's dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs
from agentd.types import Usage

from agentd_ray.status import SessionStatus

__all__ = ["HostCounters"]


@attrs.define(eq=False)
class HostCounters:
    """Runs that have ended on a host, those of them that failed, and what all of them used.

    `publish` hands them to Ray, whose dashboard and Prometheus endpoint show them as `ray_agentd_...`, by host.
    """

    fleet: str
    began: float = attrs.field(factory=time.monotonic)
    runs: int = 0
    failed: int = 0
    turns: int = 0
    usage: Usage = attrs.field(factory=Usage)
    _since: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    _metrics: dict[str, Any] | None = None
    _told: dict[str, float] = attrs.field(factory=dict)

    def ended(self, turns: int, before: Usage, now: Usage, *, failed: bool) -> None:
        """Count a run that has ended."""
        self.runs += 1
        self.failed += failed
        self.turns += max(0, turns)
        cost = None if now.cost_usd is None else now.cost_usd - (before.cost_usd or 0.0)
        self.usage += Usage(
            input_tokens=max(0, now.input_tokens - before.input_tokens),
            output_tokens=max(0, now.output_tokens - before.output_tokens),
            requests=max(0, now.requests - before.requests),
            cost_usd=cost,
        )

    def see(self, states: Mapping[str, str]) -> float:
        """Remember since when each session has had its state, and return now. To be called again and again, lest a
        change be missed."""
        now = time.monotonic()
        self._since = {
            name: known if (known := self._since.get(name, ("", now)))[0] == state else (state, now)
            for name, state in states.items()
        }
        return now

    def states(self, sessions: Mapping[str, tuple[str, int, Usage]]) -> list[SessionStatus]:
        """Return the status of each session, of its state, its answers and its usage."""
        now = self.see({name: state for name, (state, _, _) in sessions.items()})
        return [
            SessionStatus(
                conversation=name,
                state=state,
                since_s=now - self._since[name][1],
                answers=answers,
                tokens=usage.total_tokens,
                cost_usd=usage.cost_usd,
            )
            for name, (state, answers, usage) in sessions.items()
        ]

    def publish(self, states: Mapping[str, int], *, loop_lag_s: float) -> None:
        """Hand the figures to Ray."""
        if self._metrics is None:
            self._metrics = _made()
        for state in ("running", "idle", "leaving"):
            self._metrics["sessions"].set(states.get(state, 0), {"fleet": self.fleet, "state": state})
        self._metrics["lag"].set(loop_lag_s, {"fleet": self.fleet})
        totals: dict[str, float] = {
            "runs": self.runs,
            "failed": self.failed,
            "turns": self.turns,
            "tokens": self.usage.total_tokens,
        }
        totals["cost"] = self.usage.cost_usd or 0.0
        for name, total in totals.items():
            if (more := total - self._told.get(name, 0)) > 0:
                self._metrics[name].inc(more, {"fleet": self.fleet})
                self._told[name] = total


def _made() -> dict[str, Any]:
    from ray.util.metrics import Counter, Gauge

    def counter(name: str, what: str) -> Any:
        return Counter(f"agentd_{name}", description=what, tag_keys=("fleet",))

    return {
        "sessions": Gauge("agentd_sessions", description="Sessions on a host.", tag_keys=("fleet", "state")),
        "lag": Gauge(
            "agentd_loop_lag_s", description="Seconds that a host's loop was late.", tag_keys=("fleet",)
        ),
        "runs": counter("runs", "Runs that have ended."),
        "failed": counter("runs_failed", "Runs that have ended with an error."),
        "turns": counter("turns", "Answers of models."),
        "tokens": counter("tokens", "Tokens of models, input and output."),
        "cost": counter("cost_usd", "US dollars for models, where prices are known."),
    }
