"""Plugins of every kind, each with an option, as distributions that a test installs."""

from __future__ import annotations

from pathlib import Path

from agentd_testing import fake_distribution

MODULES = {
    "acme_parser": '''
        from agentd.hookspecs import hookimpl
        from agentd.notation import Notation
        from agentd.registry.options import check_options
        from agentd.types import Block, Segment
        AGENTD_API = 1

        class Parser:
            """A line that begins with the mark is a block of bash."""

            def __init__(self, mark):
                self.mark, self.text = mark, ""

            def feed(self, text):
                self.text += text
                return []

            def close(self):
                segments, at = [], 0
                for line in self.text.splitlines(keepends=True):
                    block = None
                    if line.startswith(self.mark):
                        block = Block.of("bash", "execute", line.removeprefix(self.mark))
                    segments.append(Segment("block" if block else "prose", line, at, at + len(line), block))
                    at += len(line)
                return segments

        @hookimpl
        def agentd_create_parser(options):
            check_options("the parser 'bang'", options, {"mark": str})
            mark = options.get("mark", "!")
            return Notation(guide=f"Begin a line with {mark}.", forms=f"{mark} COMMAND", parser=lambda: Parser(mark))
    ''',
    "acme_renderer": '''
        from agentd.hookspecs import hookimpl
        from agentd.registry.options import check_options
        AGENTD_API = 1

        @hookimpl
        def agentd_create_skill_renderer(options):
            check_options("the skill renderer 'loud'", options, {"word": str})
            from agentd_skills.renderer import AgentSkillsRenderer

            class Loud(AgentSkillsRenderer):
                guide = f"{options.get('word', 'HEAR')}: {AgentSkillsRenderer.guide}"

            return Loud()
    ''',
    "acme_sink": '''
        from pathlib import Path
        from agentd.hookspecs import hookimpl
        from agentd.registry.options import check_options
        AGENTD_API = 1

        class Tally:
            def __init__(self, path): self.path, self.names = path, []
            def emit(self, event): self.names.append(type(event).__name__)
            def close(self):
                if self.names: Path(self.path).write_text(" ".join(self.names))

        @hookimpl
        def agentd_create_event_sink(options):
            check_options("the event sink 'tally'", options, {"path": str})
            return Tally(options.get("path", "tally.txt"))
    ''',
    "acme_store": '''
        from pathlib import Path
        from agentd.hookspecs import hookimpl
        from agentd.registry.options import check_options
        AGENTD_API = 1

        @hookimpl
        def agentd_create_snapshot_store(workspace_dir, base_dir, exclude, options):
            check_options("the snapshot store 'noted'", options, {"note": str})
            from agentd_snapshots.snapshots import Snapshots

            class Noted(Snapshots):
                async def asnapshot(self, *args, **settings):
                    kept = await super().asnapshot(*args, **settings)
                    with open(options["note"], "a") as file:
                        file.write(f"{kept.id} ")
                    return kept

            return Noted(workspace_dir, base_dir, exclude=exclude)
    ''',
    "acme_tools": '''
        from agentd.hookspecs import hookimpl
        from agentd.registry.options import check_options
        from agentd.types import ToolSpec
        AGENTD_API = 1

        class Source:
            def __init__(self, name, factor): self.name, self.factor = name, factor
            async def list_tools(self, host=None): return [ToolSpec(name="rate", source=self.name)]
            async def call(self, name, arguments, on_progress=None): return self.factor
            async def aclose(self): pass

        @hookimpl
        def agentd_create_tool_sources(spec, options):
            if not str(spec).startswith("rates:"): return None
            check_options("the tool source 'rates'", options, {"factor": float})
            return [Source(spec.partition(":")[2].lower(), options.get("factor", 1))]
    ''',
    "acme_model": '''
        from contextlib import asynccontextmanager
        from agentd.hookspecs import hookimpl
        from agentd.protocols import ModelFinish, ModelText
        from agentd.registry.options import check_options
        AGENTD_API = 1

        class Echo:
            def __init__(self, name, words): self.name, self.words = name, words
            def start(self, instructions): pass
            def add_task(self, text): pass
            def add_answer(self, text, calls=()): pass
            def add_results(self, text): pass

            @asynccontextmanager
            async def stream(self):
                async def events():
                    yield ModelText(self.words)
                    yield ModelFinish(reason="stop")
                yield events()

        @hookimpl
        def agentd_open_model(name, options):
            if not name.startswith("echo/"): return None
            known = {"words": str, "base_url": str | None, "api_key": str | None, "api": str, "request": dict}
            check_options(f"the model {name!r}", options, known)
            return Echo(name, options.get("words", "nothing") + str(options.get("request", "")))
    ''',
}  # fmt: skip

ENTRY_POINTS = {
    "agentd.parsers": {"bang": "acme_parser"},
    "agentd.skill_renderers": {"loud": "acme_renderer"},
    "agentd.event_sinks": {"tally": "acme_sink"},
    "agentd.snapshots": {"noted": "acme_store"},
    "agentd.tool_sources": {"rates": "acme_tools"},
    "agentd.models": {"echo": "acme_model"},
}


def install(folder: Path) -> Path:
    """Install one plugin of each kind into a new folder for PYTHONPATH, and return the folder."""
    fake_distribution(folder, "acme", entry_points=ENTRY_POINTS, modules=MODULES)
    return folder
