"""The page in a real browser: it draws, on a large and a small screen, light and dark, and its console stays empty."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from agentd_sink_html.page import page
from agentd_sink_html.trace import Traces
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("chromium") is None,
        reason="needs a browser: apt-get install --no-install-recommends chromium",
    ),
]

_COLOURS = {"model": (0x5B, 0x6E, 0xE1), "code": (0x2A, 0x9D, 0x68), "tool": (0xC7, 0x7D, 0x1E)}
_DARK = {"model": (0x8D, 0x9B, 0xF5), "code": (0x4F, 0xC2, 0x8A), "tool": (0xE3, 0xA1, 0x4B)}


def long_run(turns: int) -> str:
    traces = Traces()
    traces.add({"type": "run_start", "task": "A long run", "model": "m", "executor": "native"}, 0)
    for turn in range(turns):
        at, id_ = 10.0 * turn, f"code{turn}"
        traces.add({"type": "text_delta", "text": f"Step {turn}.\n\n"}, at + 4)
        traces.add({"type": "code_start", "id": id_, "code": "print('x')\n" * 3, "target": "python"}, at + 4)
        for number in range(4):
            call = {
                "type": "tool_call",
                "id": f"{id_}-{number}",
                "name": "look",
                "code_id": id_,
                "wall_s": 0.5,
            }
            traces.add(
                {**call, "arguments": '{"n": 1}', "result": "2", "status": "completed"}, at + 5 + number
            )
        done = {
            "type": "code_execution",
            "id": id_,
            "code": "print('x')\n" * 3,
            "target": "python",
            "status": "completed",
        }
        traces.add({**done, "output": "x\nx\nx\n"}, at + 9)
        traces.add({"type": "turn_end", "turn": turn + 1, "usage": {"input_tokens": 1}}, at + 10)
    traces.add({"type": "run_end", "stop_reason": "answer", "text": "The **end**."}, 10.0 * turns)
    return page(traces.runs)


def browse(tmp_path: Path, html: str, *options: str) -> tuple[str, str]:
    """Open a page and return what the browser said, its console's lines among it, and what it printed."""
    (tmp_path / "page.html").write_text(html)
    done = subprocess.run(
        [
            *(
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ),
            *("--no-first-run", "--disable-background-networking", "--enable-logging=stderr", "--v=0"),
            f"--user-data-dir={tmp_path / 'profile'}",
            *options,
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stderr, done.stdout


@pytest.mark.parametrize(
    ("size", "dark"),
    [((1200, 900), False), ((390, 844), False), ((1200, 900), True)],
    ids=["large", "phone", "dark"],
)
def test_the_page_draws_its_timeline_and_the_console_is_empty(
    tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    picture = tmp_path / "page.png"
    options = [f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}"]
    said, _ = browse(tmp_path, long_run(5), *options, *(["--force-dark-mode"] if dark else []))
    assert "CONSOLE" not in said
    with Image.open(picture) as image:
        colours = {colour[:3] for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
        corner = image.convert("RGB").getpixel((2, 2))
    assert set((_DARK if dark else _COLOURS).values()) <= colours
    assert isinstance(corner, tuple)
    assert (max(corner) < 64) is dark


def test_a_small_screen_needs_no_scrolling_sideways(tmp_path: Path) -> None:
    wide = long_run(2).replace("Step 0.", "x" * 500 + " `" + "y" * 500 + "`")
    probe = (
        "<script>document.title = `${document.documentElement.scrollWidth} of ${innerWidth}`</script></body>"
    )
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", wide).replace(
        "</body>", probe
    )
    _, printed = browse(tmp_path, open_page, "--window-size=500,844", "--dump-dom")
    found = re.search(r"<title>(\d+) of (\d+)", printed)
    assert found is not None
    assert int(found[1]) <= int(found[2])


def test_keys_move_from_block_to_block_and_open_what_is_folded(tmp_path: Path) -> None:
    probe = """<script>
      const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      press("j"); const first = document.activeElement.id; press("j"); press("j"); press("k");
      const second = document.activeElement.id; press("Enter");
      const opened = document.querySelectorAll("details[open]").length; press("e");
      document.title = [first, second, opened, document.querySelectorAll("details:not([open])").length].join(" ");
    </script></body>"""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", long_run(2)).replace(
        "</body>", probe
    )
    said, printed = browse(tmp_path, open_page, "--dump-dom")
    assert "CONSOLE" not in said
    assert "<title>run1-turn1-2 run1-turn1-2-1 1 0</title>" in printed
