"""The chart of the curve as SVG, for light and for dark pages (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from evidence.curve import Cell
from evidence.plan import OFFERED

__all__ = ["draw"]

INKS: Final = {"light": "#333333", "dark": "#dddddd"}
COLOURS: Final = {
    "light": ("#555555", "#1b6ca8", "#0f8b6d", "#b8570b", "#8a3ea8"),
    "dark": ("#bbbbbb", "#6cb6ee", "#53d0ab", "#f0a05a", "#cf93e8"),
}
PANELS: Final = {
    "tokens": "tokens in and out",
    "price": "price, with a cache",
    "requests": "requests",
}


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Write `evidence-light.svg` and `evidence-dark.svg` into a folder; the same cells give the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    written = []
    for scheme, ink in INKS.items():
        style: dict[str, Any] = {
            "svg.fonttype": "none",  # text stays text, in the page's own fonts
            "svg.hashsalt": "evidence",
            "font.family": "sans-serif",
            "text.color": ink,
            "axes.labelcolor": ink,
            "axes.edgecolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
        }
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(10, 3.6), layout="constrained")
            axes = figure.subplots(1, len(PANELS), sharey=True)
            for place, (measure, title) in zip(axes, PANELS.items(), strict=True):
                _panel(place, cells, measure, title, scheme)
            axes[0].set_ylabel("code / JSON")
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(
                handles, labels, loc="outside lower center", ncols=len(OFFERED), frameon=False, labelcolor=ink
            )
            path = folder / f"evidence-{scheme}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None})
            written.append(path)
    return written


def _panel(place: Any, cells: Sequence[Cell], measure: str, title: str, scheme: str) -> None:
    for offered, colour in zip(OFFERED, COLOURS[scheme], strict=True):
        row = [cell for cell in cells if cell.offered == offered]
        place.plot(
            [cell.mean_calls for cell in row],
            [cell.ratio(measure) for cell in row],
            marker="o",
            color=colour,
            label=f"{offered:,} tools",
        )
    place.axhline(1, color=INKS[scheme], linewidth=1, linestyle="--")
    place.set_xscale("log")
    place.set_yscale("log")
    ticks = {"x": (1, 3, 10, 30), "y": (0.01, 0.03, 0.1, 0.3, 1)}
    place.set_xticks(ticks["x"], [str(tick) for tick in ticks["x"]])
    place.set_yticks(ticks["y"], [f"{tick}x" for tick in ticks["y"]])
    place.minorticks_off()
    place.set_xlabel("calls a task")
    place.set_title(title, fontsize=11)
    place.grid(alpha=0.25)
    place.patch.set_alpha(0)
