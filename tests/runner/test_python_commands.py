"""Which commands start a Python on a text, and which one: read as bash reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from agentd_runner.host.python_commands import PythonCommand, python_command
from hypothesis import given, settings, strategies as st

SHOWS = """\
#!/usr/bin/env python3
import sys, os
print(repr((sys.argv[1:], sys.stdin.read(), os.path.samestat(os.fstat(1), os.fstat(2)))))
"""


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("python3 -c 'print(1)'", PythonCommand("python3", "print(1)")),
        ("  python -c print", PythonCommand("python", "print")),
        ('python3 -c "print(\\"a\\", 1)"\n', PythonCommand("python3", 'print("a", 1)')),
        ("python3 -c '\nif 1:\n  x\n' 2>&1", PythonCommand("python3", "\nif 1:\n  x\n", errors="joined")),
        ("python3 -c 'x' 2>/dev/null", PythonCommand("python3", "x", errors="dropped")),
        ("python3 -c 'a''b'\"c\"", PythonCommand("python3", "abc")),
        ("python3 - <<'EOF'\nprint('$x')\nEOF\n", PythonCommand("python3", "print('$x')\n", b"")),
        ("python3 <<EOF\nprint(1)\nEOF", PythonCommand("python3", "print(1)\n", b"")),
        ("python3 -c 'x' 2>&1 <<'E'\nin\nE\n", PythonCommand("python3", "x", b"in\n", "joined")),
    ],
)
def test_a_line_that_leaves_the_shell_nothing_to_do(line: str, meant: PythonCommand) -> None:
    assert python_command(["bash", "-c", line]) == meant


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "echo",
            "python3",
            "python3 -",
            "python3 x.py",
            "python3 -c",
            "python3 -m json.tool",
            "python3.11 -c x",
        ),
        *(
            "python3 -c 'x' a",
            "python3 -u -c 'x'",
            "A=1 python3 -c 'x'",
            "python3 -c 'x' | cat",
            "python3 -c 'x' &",
        ),
        *(
            "python3 -c 'x'; ls",
            "python3 -c 'x' > f",
            "python3 -c 'x'\nls",
            'python3 -c "$x"',
            "python3 -c x$(ls)",
        ),
        *(
            'python3 -c "`ls`"',
            "python3 -c x*",
            "python3 -c {a,b}",
            "python3 -c 'x",
            "python3 -c x#",
            "python3 -c ~",
        ),
        *(
            "python3 <<EOF\n$x\nEOF\n",
            "python3 <<EOF\nx",
            "python3 <<'E'\nx\nE\nls\n",
            "python3 <<-E\nx\nE\n",
        ),
        *(
            "python3 <<< x",
            "python3 - <<'A' <<'B'\nx\nA\ny\nB\n",
            "python3 -c 'x' 2>&1 2>/dev/null",
            "python3 -c 'x' 2>&1x",
        ),
        *(
            "python3 <<'E'\n\nE",
            "(python3 -c 'x')",
            "! python3 -c 'x'",
            "python3 -c 'x' #",
            "python3 <<'E' 2>&1E\nx\nE\n",
        ),
        *(
            "python3 <<\nE\nx\nE\n",
            "python3 -c 'x' <<\n'E'\nx\nE\n",
            "python3 <<'E'\nx\nE\n\x0c",
            "python3 <<'E'\nx\nE\n\u2003",
            "python3 -c 'x'\n\xa0",
            "python3 -c 'x'\n\r",
        ),
    ],
)
def test_any_other_line_is_the_shells(line: str) -> None:
    found = python_command(["bash", "-c", line])
    assert found is None or found.code == "\n"


def test_a_program_by_its_arguments() -> None:
    assert python_command(["python3", "-c", "$x"], b"in") == PythonCommand("python3", "$x")
    assert python_command(["python3", "-"], b"print(1)") == PythonCommand("python3", "print(1)", b"")
    assert python_command(["python3", "-c", "x", "y"]) is None
    assert python_command(["python3"], b"\xff") is None
    assert python_command(["python3"], b"#!/x\n# -*- coding: latin-1 -*-\nx") is None
    assert python_command(["python3"], b"x\n\n# coding: latin-1") is not None
    assert python_command(["python3", "-c", "# coding: latin-1\nx"]) is not None
    assert python_command(["bash", "-lc", "python3 -c 1"]) is None


PIECES = st.lists(
    st.sampled_from(
        ["python3", " ", "-c", "-", "'x y'", '"a b"', "a", "\\", '"', "'", "$", "`", "\n", "2>&1", "2>/dev/null",
         "<<'E'", "<<E", "<<\"E\"", "E", "\nE\n", ";", "#", "=", "\t"]
    ),
    max_size=9,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(pieces=PIECES)
def test_bash_gives_the_python_just_that(pieces: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    line = "python3 -c " + "".join(pieces)
    meant = python_command(["bash", "-c", line])
    if meant is None:
        return
    folder = _folder(tmp_path_factory)
    done = subprocess.run(
        ["bash", "-c", line],
        input="given",
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    stdin = "given" if meant.stdin is None else meant.stdin.decode()
    assert done.stdout == repr((["-c", meant.code], stdin, meant.errors == "joined")) + "\n"


def _folder(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "programs"
    if not folder.exists():
        folder.mkdir()
        (folder / "python3").write_text(SHOWS.replace("/usr/bin/env python3", __import__("sys").executable))
        (folder / "python3").chmod(0o755)
    return folder
