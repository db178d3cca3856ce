"""A fleet's status as one HTML page that needs nothing else: no other file, no network, no JavaScript."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from agentd_ray.status import FleetStatus
from agentd_ray.status_rows import HOST_COLUMNS, SESSION_COLUMNS, STATES, headline, host_row, session_rows

__all__ = ["status_page"]

_MOST_SESSIONS: Final = 2_000  # rows of a page


def status_page(
    fleets: Sequence[FleetStatus], *, refresh_s: float | None = None, with_sessions: bool = False
) -> str:
    """Return the page. Names of conversations and hosts are escaped, whatever they are.

    :param refresh_s: have the browser read it again after so many seconds.
    :param with_sessions: show the rows of sessions at once; else a click does, until the page is read again.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("agentd_ray"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("fleet.html.jinja").render(
        fleets=fleets,
        states=STATES,
        headline=headline,
        host_columns=HOST_COLUMNS,
        host_row=host_row,
        session_columns=SESSION_COLUMNS,
        session_rows=session_rows,
        with_sessions=with_sessions,
        most=_MOST_SESSIONS,
        refresh_s=None if refresh_s is None else max(1, round(refresh_s)),
        now=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    )
