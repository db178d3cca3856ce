"""Which modules a block names, and which a fork leaves right."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd_runner.host.imports import MOST, MOST_TOLD, imports_of, read_preload, tell_left_out
from agentd_runner.inside import frames
from agentd_runner.inside.setup import RunnerSetup
from agentd_runner.inside.warm_imports import trusted_folders
from agentd_runner.inside.warm_python import MAX_ENTRIES, holds


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import numpy", ["numpy"]),
        ("import numpy as np, pandas as pd", ["numpy", "pandas"]),
        ("import json, os, sys, asyncio", ["asyncio"]),
        ("import matplotlib.pyplot as plt", ["matplotlib.pyplot"]),
        ("from matplotlib import pyplot as plt", ["matplotlib", "matplotlib.pyplot"]),
        ("from xml.etree import (ElementTree,", ["xml.etree", "xml.etree.ElementTree"]),
        ("def f():\n    import numpy  # later\n", ["numpy"]),
        ("try:\n\timport numpy; print()\n", ["numpy"]),
        ("import numpy\r\nimport pandas\r\n", ["numpy", "pandas"]),
        ("from numpy import *", ["numpy"]),
        ("from . import sibling", []),
        ("from .a import b", []),
        ("important = 1\nfrom_ = 2", []),
        ("print('import numpy')", []),
        ("import", []),
        ("from numpy", []),
        ("import numpy" + "x" * 1000, []),
        ("import \ud800, numpy", ["numpy"]),
        ("\n".join(f"import m{n}" for n in range(1000)), [f"m{n}" for n in range(MOST)]),
    ],
)
def test_the_modules_that_a_block_imports(code: str, names: list[str]) -> None:
    assert imports_of(code) == names


@pytest.mark.parametrize("given", ["a b", 5, "../x", "", "a;b"])
def test_what_is_no_module_is_said_with_its_place(given: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read_preload(["numpy", given, "xml.etree", given])  # type: ignore[list-item]
    must = "must be the name of a module, such as 'numpy' or 'xml.etree', got"
    assert str(caught.value) == f"preload[1]: {must} {given!r}\npreload[3]: {must} {given!r}"


def test_a_text_in_place_of_a_list_of_modules_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        read_preload("numpy")
    must = "must be a list of modules' names, such as ['numpy']"
    assert str(caught.value) == f"preload: {must}, got 'numpy'; write ['numpy']"


def test_what_a_runner_says_of_modules_harms_no_terminal_and_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agentd.execution")
    tell_left_out("numpy: \x1b]0;title\x07 \r" + "x" * 10_000 + "\n" * 100_000, ["numpy"])
    assert len(caplog.records) == MOST_TOLD
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].getMessage().isprintable()
    assert len(caplog.records[0].getMessage()) < 600


MODULES = {
    "fine": ("import fractions", ""),
    "absent": (None, "None"),
    "needs": ("import not_there_at_all", "it needs not_there_at_all, which is not there"),
    "absent.within": (None, "None"),
    "raises": ("1 / 0", "its import raises ZeroDivisionError"),
    "exits": ("raise SystemExit", "its import raises SystemExit"),
    "prints": ("print('hello')", "its import prints"),
    "warns": ("import warnings; warnings.warn('old')", "its import prints"),
    "thread": (
        "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "its import starts a thread",
    ),
    "process": ("import subprocess; p = subprocess.Popen(['sleep', '0.5'])", "its import starts a process"),
    "opens": ("f = open('/dev/null')", "its import opens a file"),
    "environment": ("import os; os.environ['X'] = '1'", "its import changes the environment"),
    "path": ("import sys; sys.path.append('/x')", "its import changes sys.path"),
    "directory": ("import os; os.chdir('/')", "its import changes the directory"),
    "configures": ("import logging; logging.basicConfig()", "its import sets up logging"),
    "handles": (
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "its import handles a signal",
    ),
}

SCRIPT = """
import os, sys
from agentd_runner.inside import warm_imports
folder, name, *trusted = sys.argv[1:]
sys.path.append(folder)
sys.path[:] = [each for each in sys.path if each]
print_to = os.dup(1)
output = os.memfd_create("output")
warm_imports._let_print_to(output)
reason = warm_imports._import_one(name, tuple(each + "/" for each in sys.path if each != folder or trusted))
os.write(print_to, str(reason).encode())
os._exit(0)
"""


def import_in(folder: Path, name: str, *trusted: str) -> str:
    command = [sys.executable, "-I", "-c", SCRIPT, str(folder), name, *trusted]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=30, check=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="modules are imported ahead on Linux only")
@pytest.mark.parametrize("name", MODULES)
def test_only_what_a_fork_leaves_right_is_imported_ahead(tmp_path: Path, name: str) -> None:
    text, reason = MODULES[name]
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    assert import_in(tmp_path, name, "trusted") == reason


def test_what_lies_elsewhere_is_not_imported_ahead(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("")
    assert import_in(tmp_path, "elsewhere") == "elsewhere is not from the interpreter's own folders"


def test_no_folder_that_code_can_write_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = RunnerSetup()
    setup.workspace = str(tmp_path / "workspace")
    folders = [tmp_path / name for name in ("system", "open", "workspace", "workspace/packages")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(sys, "path", [*map(str, folders), str(tmp_path / "not-there")])
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "system")
    assert trusted_folders(setup) == [str(folders[0])]
    setup.trusts_interpreter = True
    assert trusted_folders(setup) == [str(folders[0]), str(folders[1])]


@pytest.mark.parametrize(
    ("entry", "found"), [("wave.py", True), ("wave", True), ("wave.so", True), ("waves.py", False)]
)
def test_a_folder_may_have_a_module_of_the_same_name(tmp_path: Path, entry: str, found: bool) -> None:
    (tmp_path / entry).touch()
    assert holds(str(tmp_path), {"wave"}) is found
    assert not holds(str(tmp_path / "not-there"), {"wave"})


def test_a_folder_with_very_many_entries_is_not_looked_through(tmp_path: Path) -> None:
    for number in range(MAX_ENTRIES + 2):
        (tmp_path / str(number)).touch()
    assert holds(str(tmp_path), {"wave"})


def test_as_many_modules_as_are_imported_ahead_may_be_named_and_more_are_refused() -> None:
    names = [f"m{n}" for n in range(frames.MAX_MODULES)]
    assert read_preload([*names, "m0"]) == [*names, "m0"]
    with pytest.raises(ConfigError) as caught:
        read_preload([*names, "m0", "numpy"])
    assert str(caught.value) == "preload: must name at most 128 modules, got 129"
