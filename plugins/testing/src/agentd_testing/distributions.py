"""Distributions on disk, as an installer leaves them: for tests of what reads or loads plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import attrs

__all__ = ["PLUGIN_SOURCES", "FakeDistribution", "fake_distribution"]


@attrs.frozen
class FakeDistribution:
    """Where a distribution was put: `folder` goes on `sys.path`, `info` is its `.dist-info`."""

    name: str
    folder: Path
    info: Path


def fake_distribution(
    folder: Path,
    name: str,
    *,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    version: str = "1.0",
    metadata: bool = True,
) -> FakeDistribution:
    """Write a distribution into `folder`, which may hold several.

    :param entry_points: values by name by group: `{"agentd.executors": {"mine": "my_module"}}`.
    :param modules: source by module name; common indentation is taken off.
    :param metadata: False leaves METADATA out, as an interrupted uninstall does.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines: list[str] = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in (modules or {}).items():
        (folder / f"{module}.py").write_text(dedent(source))
    return FakeDistribution(name, folder, info)


PLUGIN_SOURCES: Mapping[str, str] = {
    "executor": """
        from agentd.hookspecs import hookimpl
        AGENTD_API = 1

        class Executor:
            def __init__(self, workspace_dir, options):
                self.workspace_dir, self.options = workspace_dir, options
            async def start(self): ...
            async def run(self, action, *, action_id="", on_output=None): ...
            def attach(self, *, tools, layout): ...
            async def aclose(self): ...
            def close(self): ...

        @hookimpl
        def agentd_create_executor(workspace_dir, options):
            return Executor(workspace_dir, options)
    """,
    "parser": """
        from agentd.hookspecs import hookimpl
        from agentd.notation import Notation
        AGENTD_API = 1

        class Parser:
            def feed(self, text): return []
            def close(self): return []

        @hookimpl
        def agentd_create_parser():
            return Notation(guide="Write:", forms="!x", parser=Parser)
    """,
    "tool_source": """
        from agentd.hookspecs import hookimpl
        AGENTD_API = 1

        class Source:
            name = "fake"
            async def list_tools(self, host=None): return []
            async def call(self, name, arguments, on_progress=None): ...
            async def aclose(self): ...

        @hookimpl
        def agentd_create_tool_sources(spec, options):
            return [Source()] if str(spec).startswith("fake:") else None
    """,
    "skill_renderer": """
        from agentd.hookspecs import hookimpl
        from agentd.protocols import Layout
        AGENTD_API = 1

        class Renderer:
            guide = "Read the files."
            def layout(self, directory): return Layout()
            def render(self, tools, directory, *, notes={}): directory.mkdir(exist_ok=True)
            def prompt(self, tools, directory): return "none"

        @hookimpl
        def agentd_create_skill_renderer(options):
            return Renderer()
    """,
    "event_sink": """
        from agentd.hookspecs import hookimpl
        AGENTD_API = 1

        class Sink:
            def emit(self, event): ...
            def close(self): ...

        @hookimpl
        def agentd_create_event_sink(options):
            return Sink()
    """,
    "model": """
        from contextlib import asynccontextmanager
        from agentd.hookspecs import hookimpl
        from agentd.protocols import ModelFinish, ModelText
        AGENTD_API = 1

        class Model:
            def __init__(self, name): self.name = name
            def start(self, instructions): ...
            def add_task(self, text): ...
            def add_answer(self, text, calls=()): ...
            def add_results(self, text): ...
            @asynccontextmanager
            async def stream(self):
                async def events():
                    yield ModelText("Hello.")
                    yield ModelFinish(reason="stop")
                yield events()

        @hookimpl
        def agentd_open_model(name, options):
            return Model(name) if name.startswith("fake") else None
    """,
    "snapshot_store": """
        from agentd.hookspecs import hookimpl
        AGENTD_API = 1

        class Store:
            def snapshot(self, label=None, *, turn=None, attachment=None): ...
            def restore(self, wanted): ...
            def copy_to(self, wanted, folder): return folder
            def list_snapshots(self): return []
            def has_attachment(self, id): return False
            def attachment(self, id): return None
            def delete_snapshot(self, wanted): ...

        @hookimpl
        def agentd_create_snapshot_store(workspace_dir, base_dir, exclude, options):
            return Store()
    """,
    "trigger": """
        from agentd.hookspecs import hookimpl
        AGENTD_API = 1

        class Trigger:
            async def run(self, host): ...

        @hookimpl
        def agentd_create_trigger(options):
            return Trigger()
    """,
    "command": """
        import click

        @click.command()
        def fake():
            \"\"\"Do nothing.\"\"\"
    """,
}
"""The source of a working plugin by kind. A command's entry point is `MODULE:fake`."""
