from __future__ import annotations

import logging
import sys

import pytest
from agentd_sink_console.neutral import NeutralFormatter, neutral, one_line
from hypothesis import example, given, strategies as st


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1bc\x1b(Bplain", "plain"),
        ("\x9b2Jclear", "clear"),
        ("safe\rforged", "safe\nforged"),
        ("dos\r\nline\r\n", "dos\nline\n"),
        ("a\x08\x08b\x00c\x7f", "abc"),
        ("if admin\u202e \u2066# check\u2069", "if admin # check"),
        ("\x1b]52;c;unfinished", "]52;c;unfinished"),
        ("tab\tand\nnewline – ü 漢 🙂", "tab\tand\nnewline – ü 漢 🙂"),
    ],
)
def test_escape_sequences_and_controls_are_gone_and_text_stays(hostile: str, shown: str) -> None:
    assert neutral(hostile) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]\x07\x9b\\;0m\r\n"))))
@example("\x1b\x1b[31m[31m")
@example("\x1b\x9b\x1b]x\x07[2J")
def test_no_text_leaves_a_control_character_behind(text: str) -> None:
    result = neutral(text)
    assert all(c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") for c in result)
    result.encode("utf-8")  # and any terminal can be sent it


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert neutral(text) == text


HOSTILE = "a\x1b]0;owned\x07\nERROR forged\r\u2028again\x85 and\x1b[2J"
HARMLESS = "a ERROR forged again and"


def test_a_line_of_a_list_stays_a_line() -> None:
    assert one_line(HOSTILE) == HARMLESS


def test_a_message_in_a_log_is_one_line_and_a_traceback_is_indented() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("agentd", 30, "x.py", 1, "server: %s", (HOSTILE,), sys.exc_info())
    first, *others = NeutralFormatter("%(levelname)s %(message)s").format(record).splitlines()
    assert first == f"WARNING server: {HARMLESS}"
    assert all(line.startswith("    ") for line in others)
    assert "\x1b" not in "".join(others)
    assert "ERROR forged" in "".join(others)
