"""The registry with plugins that are broken, in every way that was met: each is listed with its error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import importlib_metadata
import pytest
from agentd.errors import (
    ConfigError,
    IncompatiblePluginError,
    PluginLoadError,
    SandboxUnavailableError,
)
from agentd.notation import Notation
from agentd.registry import PluginRecord, Registry
from agentd_testing import PLUGIN_SOURCES, fake_distribution

GOOD = PLUGIN_SOURCES["executor"]
HEAD = "from agentd.hookspecs import hookimpl\nAGENTD_API = 1\n"

BROKEN = {
    "import_error": ("import no_such_module_anywhere", "failed", "ModuleNotFoundError: No module named"),
    "system_exit": ("raise SystemExit(3)", "failed", "SystemExit: 3"),
    "base_exception": ("class Stop(BaseException): ...\nraise Stop('now')", "failed", "Stop: now ("),
    "syntax_error": ("def f(:\n    pass", "failed", "SyntaxError: "),
    "raises": ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
    "recursion": ("def f(): f()\nf()", "failed", "RecursionError"),
    "older_api": (
        dedent(GOOD).replace("AGENTD_API = 1", "AGENTD_API = 0"),
        "incompatible",
        "update acme-bad",
    ),
    "newer_api": (
        dedent(GOOD).replace("AGENTD_API = 1", "AGENTD_API = 2"),
        "incompatible",
        "its AGENTD_API is 2, this agentd has 1; update agentd-core",
    ),
    "text_api": (dedent(GOOD).replace("AGENTD_API = 1", "AGENTD_API = '1'"), "incompatible", "is '1'"),
    "boolean_api": (dedent(GOOD).replace("AGENTD_API = 1", "AGENTD_API = True"), "incompatible", "is True"),
    "no_api": (dedent(GOOD).replace("AGENTD_API = 1", ""), "incompatible", "it has no AGENTD_API"),
    "unknown_hook": (
        HEAD + "@hookimpl\ndef agentd_creat_executor(workspace_dir, options): ...",
        "failed",
        "unknown hook 'agentd_creat_executor'; did you mean 'agentd_create_executor'?",
    ),
    "one_hook_too_many": (
        dedent(GOOD) + "\n@hookimpl\ndef agentd_wake(): ...",
        "failed",
        "unknown hook 'agentd_wake'",
    ),
    "no_hook": (HEAD, "failed", "must implement agentd_create_executor, and this one does not"),
    "unmarked_hook": (
        HEAD + "def agentd_create_executor(workspace_dir, options): ...",
        "failed",
        "not marked with @hookimpl",
    ),
    "hook_of_another_kind": (
        HEAD + "@hookimpl\ndef agentd_create_parser(options): ...",
        "failed",
        "a plugin of the group agentd.executors must implement agentd_create_executor",
    ),
    "bad_signature": (
        HEAD + "@hookimpl\ndef agentd_create_executor(workspace, options): ...",
        "failed",
        "takes 'workspace', which this hook does not have; it has: workspace_dir, options, make_executor; did you mean",
    ),
    "positional_only": (
        HEAD + "@hookimpl\ndef agentd_create_executor(workspace_dir, options, /): ...",
        "failed",
        "the parameter 'workspace_dir' is positional-only",
    ),
    "async_hook": (
        HEAD + "@hookimpl\nasync def agentd_create_executor(workspace_dir, options): ...",
        "failed",
        "is an `async def`; hooks are synchronous factories",
    ),
    "wrapper": (
        HEAD + "@hookimpl(wrapper=True)\ndef agentd_create_executor(workspace_dir, options): yield",
        "failed",
        "marked as a wrapper",
    ),
    "unprintable": (
        "class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd",
        "failed",
        "Odd (",
    ),
    "lying_module": (
        HEAD + "def __dir__(): raise OSError('no directory')",
        "failed",
        "OSError: no directory",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        if module.startswith(("bad_", "good_")):
            del sys.modules[module]


@pytest.fixture
def make(folder: Path) -> Callable[[], Registry]:
    return lambda: Registry(distributions=importlib_metadata.distributions(path=[str(folder)]), environ={})


def put(
    folder: Path, name: str, source: str, *, distribution: str = "acme-bad", kind: str = "executors"
) -> None:
    fake_distribution(
        folder,
        distribution,
        entry_points={f"agentd.{kind}": {name: f"bad_{name}"}},
        modules={f"bad_{name}": source},
    )


def put_good(folder: Path) -> None:
    points = {"agentd.executors": {"good": "good_executor"}}
    fake_distribution(folder, "acme-good", entry_points=points, modules={"good_executor": GOOD})


def by_name(records: tuple[PluginRecord, ...]) -> dict[str, PluginRecord]:
    return {record.name: record for record in records}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_and_the_good_one_still_works(
    case: str, folder: Path, make: Callable[[], Registry]
) -> None:
    source, state, reason = BROKEN[case]
    put(folder, case, source)
    put_good(folder)
    registry = make()
    records = by_name(registry.check())
    assert records[case].state == state
    assert reason in records[case].error
    assert records["good"].state == "loaded"
    assert registry.create_executor("good", folder)
    expected = IncompatiblePluginError if state == "incompatible" else PluginLoadError
    with pytest.raises(expected, match=f"the executor plugin '{case}' of acme-bad failed: ") as caught:
        registry.create_executor(case, folder)
    assert reason in str(caught.value)


def test_registries_share_the_records_of_what_nobody_has_loaded(
    folder: Path, make: Callable[[], Registry]
) -> None:
    put_good(folder)
    first, second = make(), make()
    assert first.records()[0] is second.records()[0]
    first.load("executor", "good")
    assert (first.records()[0].state, second.records()[0].state) == ("loaded", "available")


def test_the_error_says_where_the_plugin_raised(folder: Path, make: Callable[[], Registry]) -> None:
    put(folder, "raises", "x = 1\nraise ValueError('oh')")
    assert by_name(make().check())["raises"].error == f"ValueError: oh ({folder / 'bad_raises.py'}:2)"


def test_a_broken_plugin_is_not_imported_twice_by_one_registry(
    folder: Path, make: Callable[[], Registry]
) -> None:
    source = (
        "import pathlib\nwith open(pathlib.Path(__file__).with_suffix('.n'), 'a') as f: f.write('x')\n1 / 0"
    )
    put(folder, "raises", source)
    registry = make()
    for _ in range(3):
        registry.check()
        with pytest.raises(PluginLoadError):
            registry.load("executor", "raises")
    assert (folder / "bad_raises.n").read_text() == "x"


def test_a_keyboard_interrupt_passes(folder: Path, make: Callable[[], Registry]) -> None:
    put(folder, "interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        make().check()


def test_a_class_as_plugin_is_refused(folder: Path, make: Callable[[], Registry]) -> None:
    points = {"agentd.executors": {"cls": "bad_class:Plugin"}}
    fake_distribution(
        folder, "acme-bad", entry_points=points, modules={"bad_class": "class Plugin: AGENTD_API = 1"}
    )
    assert "names the class Plugin" in make().check()[0].error


# --- names and metadata ------------------------------------------------------------------------


def test_of_two_with_one_name_the_first_by_distribution_is_used_and_the_other_is_listed(
    folder: Path, make: Callable[[], Registry]
) -> None:
    for distribution in ("zeta", "alpha"):
        fake_distribution(
            folder,
            distribution,
            entry_points={"agentd.executors": {"twin": f"good_{distribution}"}},
            modules={f"good_{distribution}": GOOD},
        )
    registry = make()
    used, other = registry.check()
    assert (used.distribution, used.state) == ("alpha", "loaded")
    assert (other.distribution, other.state) == ("zeta", "failed")
    assert "alpha and zeta both have the executor 'twin'; the one of alpha is used" in other.error
    assert registry.load("executor", "twin").__name__ == "good_alpha"  # type: ignore[attr-defined]


def test_blocking_one_of_two_twins_brings_the_other_into_use(folder: Path) -> None:
    for distribution in ("zeta", "alpha"):
        points = {"agentd.executors": {"twin": f"good_{distribution}"}}
        fake_distribution(folder, distribution, entry_points=points, modules={f"good_{distribution}": GOOD})
    registry = Registry(
        distributions=importlib_metadata.distributions(path=[str(folder)]),
        environ={"AGENTD_PLUGINS_BLOCK": "alpha"},
    )
    assert {r.distribution: r.state for r in registry.check()} == {"alpha": "blocked", "zeta": "loaded"}


def test_a_stranger_cannot_take_the_name_of_an_official_sandbox(
    folder: Path, make: Callable[[], Registry]
) -> None:
    points = {"agentd.executors": {"srt": "good_x"}}
    fake_distribution(folder, "aaa-imposter", entry_points=points)
    fake_distribution(folder, "agentd-executor-srt", entry_points=points)
    used = next(r for r in make().records() if r.state == "available")
    assert used.distribution == "agentd-executor-srt"


def test_a_half_removed_distribution_is_listed_and_the_rest_still_is(
    folder: Path, make: Callable[[], Registry]
) -> None:
    points = {"agentd.executors": {"ghost": "bad_ghost"}}
    fake_distribution(folder, "acme-ghost", entry_points=points, metadata=False)
    put_good(folder)
    records = by_name(make().check())
    assert records["good"].state == "loaded"
    assert records["ghost"].state == "failed"
    assert records["ghost"].distribution == "acme-ghost"
    assert "half removed" in records["ghost"].error
    assert "acme_ghost-1.0.dist-info" in records["ghost"].error


def test_what_an_interrupted_uninstall_leaves_does_not_hide_the_new_installation(
    folder: Path, make: Callable[[], Registry]
) -> None:
    points = {"agentd.executors": {"good": "good_executor"}}
    left = fake_distribution(folder, "acme-good", entry_points=points, version="0.9")
    left.info.rename(folder / "~cme_good-0.9.dist-info")
    put_good(folder)
    states = {(r.version, r.state) for r in make().check()}
    assert states == {("1.0", "loaded"), ("0.9", "failed")}


def test_metadata_of_a_module_that_is_gone_is_listed_as_failed(
    folder: Path, make: Callable[[], Registry]
) -> None:
    fake_distribution(folder, "acme-stale", entry_points={"agentd.executors": {"stale": "bad_stale"}})
    assert "No module named 'bad_stale'" in make().check()[0].error


def test_a_malformed_line_costs_only_its_own_entry_point(folder: Path, make: Callable[[], Registry]) -> None:
    made = fake_distribution(
        folder,
        "acme",
        entry_points={"agentd.executors": {"good": "good_executor"}},
        modules={"good_executor": GOOD},
    )
    with (made.info / "entry_points.txt").open("a") as file:
        file.write("# comment\nnonsense\nodd = not a module!\n= nothing\n")
    records = make().check()
    assert {r.name: r.state for r in records} == {
        "": "failed", "good": "loaded", "nonsense": "failed", "odd": "failed"
    }  # fmt: skip
    assert "'nonsense' is not `NAME = MODULE`" in by_name(records)["nonsense"].error


def test_unreadable_metadata_of_another_distribution_is_skipped(
    folder: Path, make: Callable[[], Registry]
) -> None:
    other = fake_distribution(folder, "acme-binary", entry_points={})
    (other.info / "entry_points.txt").write_bytes(b"[agentd.executors]\n\xff\xfe = x\n")
    put_good(folder)
    assert [r.name for r in make().records()] == ["good"]


# --- hooks that fail ---------------------------------------------------------------------------


def raising(error: str) -> str:
    return HEAD + f"@hookimpl\ndef agentd_create_executor(options):\n    if options: raise {error}\n"


@pytest.mark.parametrize("error", ["ValueError('bad day')", "SystemExit('bad day')"])
def test_a_raising_hook_names_the_plugin_and_the_record_keeps_it(
    error: str, folder: Path, make: Callable[[], Registry]
) -> None:
    put(folder, "moody", raising(error))
    registry = make()
    with pytest.raises(PluginLoadError, match=r"'moody' of acme-bad failed: agentd_create_executor raised"):
        registry.create_executor("moody", folder, x=1)
    (record,) = registry.records()
    assert record.state == "failed"
    assert "bad day" in record.error


def test_errors_of_agentd_pass_unchanged(folder: Path, make: Callable[[], Registry]) -> None:
    source = "from agentd.errors import SandboxUnavailableError as E\n" + raising("E('no bwrap')")
    put(folder, "strict", source)
    registry = make()
    with pytest.raises(SandboxUnavailableError, match=r"^no bwrap$"):
        registry.create_executor("strict", folder, x=1)
    assert registry.records()[0].state == "loaded"


def test_a_hook_that_returns_something_else_is_told_what_is_lacking(
    folder: Path, make: Callable[[], Registry]
) -> None:
    put(folder, "liar", HEAD + "@hookimpl\ndef agentd_create_executor(): return 'x'")
    put(
        folder,
        "void",
        HEAD + "@hookimpl\ndef agentd_create_parser(): ...",
        distribution="acme-void",
        kind="parsers",
    )
    registry = make()
    with pytest.raises(
        PluginLoadError, match=r"returned str, which lacks: aclose, attach, close, run, start"
    ):
        registry.create_executor("liar", folder)
    with pytest.raises(PluginLoadError, match=r"must return an agentd\.notation\.Notation, got NoneType"):
        registry.create_notations()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("Parser()", r"got Parser; what makes such a parser belongs into it: Notation\(parser="),
        ("Notation(guide='Write:', forms='x', parser=dict)", "returned dict, which lacks: close, feed"),
        ("Notation(guide='Write:', forms='x', parser=lambda: 1 / 0)", "ZeroDivisionError"),
    ],
)
def test_what_makes_no_parser_is_told_when_the_session_starts(
    folder: Path, make: Callable[[], Registry], made: str, told: str
) -> None:
    source = PLUGIN_SOURCES["parser"].rpartition("return")[0] + f"return {made}\n"
    put(folder, "p", source, kind="parsers")
    with pytest.raises(PluginLoadError, match=told):
        make().create_notations()


@pytest.mark.parametrize(("guide", "forms"), [("", "x"), (" \n", "x"), ("Write:", ""), (None, "x")])
def test_a_notation_that_teaches_nothing_is_refused(guide: str, forms: str) -> None:
    with pytest.raises(ConfigError, match="must say how the model writes a block"):
        Notation(guide=guide, forms=forms, parser=object)  # type: ignore[arg-type]


def test_a_raising_parser_names_its_plugin(folder: Path, make: Callable[[], Registry]) -> None:
    put(
        folder,
        "p",
        HEAD + "@hookimpl\ndef agentd_create_parser(options): return options['x']",
        kind="parsers",
    )
    with pytest.raises(PluginLoadError, match=r"'p' of acme-bad failed: .*KeyError: 'x'"):
        make().create_notations()


def test_a_raising_tool_source_names_the_spec_but_shows_no_secret(
    folder: Path, make: Callable[[], Registry]
) -> None:
    source = HEAD + "@hookimpl\ndef agentd_create_tool_sources(spec): raise OSError('down')"
    put(folder, "t", source, kind="tool_sources")
    with pytest.raises(PluginLoadError, match="raised for 'http://x/mcp' OSError: down") as caught:
        make().create_tool_sources("http://x/mcp?key=secret", {})
    assert "secret" not in str(caught.value)


def test_a_broken_parser_is_reported_and_the_others_are_used(
    folder: Path, make: Callable[[], Registry], caplog: pytest.LogCaptureFixture
) -> None:
    put(folder, "a", "1 / 0", kind="parsers")
    put(folder, "b", PLUGIN_SOURCES["parser"], distribution="acme-b", kind="parsers")
    with caplog.at_level(logging.WARNING, "agentd"):
        assert len(make().create_notations()) == 1
    assert "the parser plugin 'a' of acme-bad failed: ZeroDivisionError" in caplog.text
    with pytest.raises(PluginLoadError):
        make().create_notations(["a", "b"])  # asked for by name: no way round it


def test_a_config_error_of_a_hook_is_the_users_to_see(folder: Path, make: Callable[[], Registry]) -> None:
    source = "from agentd.errors import ConfigError as E\n" + raising("E('unknown option')")
    put(folder, "options", source)
    with pytest.raises(ConfigError, match="unknown option"):
        make().create_executor("options", folder, nonsense=1)
