"""The kit itself: what it costs, and that a contract finds what a plugin does wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import agentd_testing
import pytest
from agentd_testing.strategies import Tree, pieces_of, trees, write_tree
from hypothesis import given


def test_the_names_are_those_it_has_and_no_others() -> None:
    assert sorted(agentd_testing.__all__) == dir(agentd_testing)
    for name in agentd_testing.__all__:
        assert getattr(agentd_testing, name)
    with pytest.raises(AttributeError, match="ParserContrat"):
        _ = agentd_testing.ParserContrat


def test_the_abuse_suite_needs_neither_pytest_nor_hypothesis() -> None:
    code = "import sys, agentd_testing.escapes, agentd_cli.doctor; print({'pytest', 'hypothesis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# A parser that loses its text, an executor that decodes output, a sink that fails: each breaks one promise.
BAD = """
    from agentd_testing import EventSinkContract, ParserContract, ToolSourceContract
    from agentd.types import Block

    class Loses:
        def feed(self, text): return []
        def close(self): return []

    class TestParser(ParserContract):
        examples = {"!a\\n": Block("bash", "execute", "a", "bash")}
        def make_parser(self): return Loses()

    class Sink:
        def emit(self, event): raise ValueError(event.type)
        def close(self): ...

    class TestSink(EventSinkContract):
        def make_sink(self, folder): return Sink()

    class TestSource(ToolSourceContract):
        pass
"""


@pytest.mark.slow
def test_a_contract_fails_in_words_for_a_plugin_that_breaks_it(tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text(textwrap.dedent(BAD))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(tmp_path),
            # In the folder of all runs, it would close that to others, in which sandboxes of other tests are at work.
            "--basetemp",
            str(tmp_path / "own"),
            str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout
    assert "characters at the end were lost" in done.stdout
    assert "must give this one block" in done.stdout
    assert "override make_source() in the subclass" in done.stdout
    assert "ValueError: run_start" in done.stdout


@given(trees())
def test_trees_can_be_written(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    folder = tmp_path_factory.mktemp("tree") / "top"
    write_tree(folder, tree)
    assert sorted(path.name for path in folder.iterdir()) == sorted(tree)


def test_pieces_are_the_text() -> None:
    assert pieces_of("abcdef", [3, 1, 3, 99]) == ["a", "bc", "def"]
    assert pieces_of("", [1]) == []
