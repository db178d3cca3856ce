"""The rows: what is measured of each side, in the same way for all, in its own process. Standard library only."""

from __future__ import annotations

import asyncio
import importlib

from rivals.row import DECLARED, Figures, Row
from rivals.side import NotThere, Side

__all__ = ["ROWS", "Figures", "Row", "measured"]

for _module in ("blocks", "tool_calls", "loads", "endings"):  # in the tables' order
    importlib.import_module(f"rivals.{_module}")
ROWS = tuple(DECLARED)


async def measured(side: Side, name: str, quick: bool, within_s: float) -> dict[str, object]:
    """Measure one row; what a side does not have is a remark, not an error."""
    row = next(row for row in ROWS if row.name == name)
    from rivals.endings import WORDS

    try:
        figures = await asyncio.wait_for(row.measure(side, row.scale(quick)), within_s)
    except TimeoutError:
        return {"figures": {}, "error": f"not done after {within_s:.3g} s", "stuck": True}
    except NotThere as missing:
        return {"figures": {}, "lacks": str(missing)}
    except Exception as error:
        return {"figures": {}, "error": f"{type(error).__name__}: {error}"[:300]}
    return {"figures": figures, "words": dict(WORDS)}
