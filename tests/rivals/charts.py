"""The chart of the documentation, drawn by matplotlib: once for light pages, once for dark ones, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rivals.tables import Report

__all__ = ["draw"]

SHOWN = (
    ("fresh_ms", "block, fresh namespace"),
    ("call_ms", "tool call from code"),
    ("turn_ms", "a whole agent's turn"),
    ("loop_ms", "a loop of 200,000"),
)
COLOURS = {
    "light": ("#ffffff00", "#222222", "#3f51b5", "#9aa0a6"),
    "dark": ("#00000000", "#dddddd", "#8c9eff", "#80868b"),
}


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw `rivals-light.svg` and `rivals-dark.svg`; bars are milliseconds on a logarithmic axis."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "agentd"  # the same figures give the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    folder.mkdir(parents=True, exist_ok=True)
    return [_drawn(report, folder / f"rivals-{name}.svg", *colours) for name, colours in COLOURS.items()]


def _drawn(report: Report, path: Path, back: str, ink: str, ours: str, theirs: str) -> Path:
    from matplotlib import pyplot

    shown = [(key, title) for key, title in SHOWN if any(report.median(s.name, key) for s in report.sides)]
    figure, axes = pyplot.subplots(len(shown) or 1, 1, figsize=(8, 2.2 * (len(shown) or 1)), squeeze=False)
    for axis, (key, title) in zip(axes[:, 0], shown, strict=False):
        bars = [(side, value) for side in reversed(report.sides) if (value := report.median(side.name, key))]
        colours = [ours if side.name.startswith("agentd") else theirs for side, _ in bars]
        axis.barh([side.title for side, _ in bars], [value for _, value in bars], color=colours)
        _dressed(axis, f"{title}, ms", ink)
    figure.tight_layout()
    figure.savefig(path, facecolor=back, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _dressed(axis: Any, title: str, ink: str) -> None:
    axis.set_xscale("log")
    axis.set_title(title, color=ink, fontsize=10, loc="left")
    axis.tick_params(colors=ink, labelsize=8)
    axis.set_facecolor("none")
    for spine in axis.spines.values():
        spine.set_visible(False)
