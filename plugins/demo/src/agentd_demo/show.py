"""The demo itself: patch the real `openai` client, give it a task on real files, check what it wrote.

Without a key the client talks to a replayed model (`agentd_demo.replay`) over real HTTP; with
OPENAI_API_KEY or OPENAI_BASE_URL in the environment, to that provider. All else is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import attrs
from agentd.errors import MissingPluginError, WorkspaceError
from agentd.events import Event, RunEnd, RunStart, TextDelta, TurnEnd
from agentd.registry import Registry
from agentd.registry.defaults import default_executor
from agentd.types import Usage

from agentd_demo.subject import Distribution, find_distributions, find_root, wrong_lines

if TYPE_CHECKING:
    from agentd.protocols import Executor
    from openai import OpenAI

__all__ = ["Demo", "DemoOutcome"]

RECORDING = Path(__file__).with_name("lines_of_python.json")
DEFAULT_MODEL = "gpt-5-mini"
REPORT = "report.md"


class DistributionInfo(TypedDict):
    """What the tool `distributions` tells about each of them."""

    name: str
    folder: str


@attrs.frozen(kw_only=True)
class DemoOutcome:
    """How the demo ended: the report's path, and what is wrong with it (nothing, if all is well)."""

    report: Path
    problems: tuple[str, ...]
    replayed: bool


@attrs.frozen(kw_only=True)
class Demo:
    """One run of the demo in the directory `cwd` (made if missing).

    `root` is what the agent measures (default: this repository, or the installed packages), `executor` the name of
    one (default: that of `agentd run`). `replay` chooses the replayed model even where `environ` holds a key;
    `slowly` keeps the recorded pauses between the pieces of text.
    """

    cwd: Path
    root: Path = attrs.field(factory=find_root)
    executor: str | None = None
    replay: bool = False
    slowly: bool = True
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)

    def run(self, emit: Callable[[Event], None]) -> DemoOutcome:
        """Run it; `emit` gets every event. Raises what the client and the executor raise."""
        from agentd_openai import patch_openai_with_ptc
        from agentd_openai.display import display_events

        distributions = find_distributions(self.root)
        report = self._fresh_report()
        _offer_tools(distributions)
        with ExitStack() as stack:
            client, model = stack.enter_context(self._client())
            task = _task(self.root)
            executor = self._make_executor()
            stack.callback(executor.close)
            emit(RunStart(task=task, model=model, executor=getattr(executor, "plugin_name", "")))
            patch_openai_with_ptc(client, cwd=str(self.cwd), executor=executor)
            stack.callback(client.cleanup_ptc)  # type: ignore[attr-defined]
            stream = client.responses.create(
                model=model,
                input=[{"role": "user", "content": task}],
                stream=True,
            )
            _relay(display_events(stream), emit)
        return DemoOutcome(
            report=report,
            problems=tuple(_problems(report, distributions)),
            replayed=not self._live,
        )

    def _make_executor(self) -> Executor:
        """Make the executor; the sandbox `native` is told what of this machine is to be measured."""
        registry = Registry()
        made = registry.create_executor(self.executor or default_executor(registry, sandboxed=True), self.cwd)
        if getattr(made, "plugin_name", "") != "native":
            return made
        made.close()  # nothing of it has started
        return registry.create_executor("native", self.cwd, read=[self.root])

    @property
    def _live(self) -> bool:
        given = self.environ.get("OPENAI_API_KEY") or self.environ.get("OPENAI_BASE_URL")
        return bool(given) and not self.replay

    def _fresh_report(self) -> Path:
        report = self.cwd / REPORT
        try:
            self.cwd.mkdir(parents=True, exist_ok=True)
            report.unlink(missing_ok=True)  # one of an earlier run must not pass for this run's
        except OSError as error:
            raise WorkspaceError(
                f"cannot use {str(self.cwd)!r} as the workspace: {error.strerror}; name another: --cwd DIR"
            ) from error
        return report

    @contextmanager
    def _client(self) -> Iterator[tuple[OpenAI, str]]:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise MissingPluginError("openai", "agentd-demo") from error

        if self._live:
            with OpenAI(api_key=self.environ.get("OPENAI_API_KEY") or "none") as client:
                yield client, self.environ.get("OPENAI_MODEL") or _default_model(client, self.environ)
            return
        from agentd_demo.recording import Recording
        from agentd_demo.replay import ReplayServer

        recording = Recording.load(RECORDING)
        if not self.slowly:
            recording = recording.without_delays()
        with (
            ReplayServer(recording) as server,
            OpenAI(base_url=server.base_url, api_key="replayed", max_retries=0) as client,
        ):
            yield client, recording.model


def _default_model(client: OpenAI, environ: Mapping[str, str]) -> str:
    """A local server has its own models: take the first; OpenAI's own address has the default one."""
    if not environ.get("OPENAI_BASE_URL"):
        return DEFAULT_MODEL
    names = [model.id for model in client.models.list().data]
    return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]


def _task(root: Path) -> str:
    return (
        f"Count the lines of the Python code below `{root}`, for each distribution. The tools are functions "
        "in `lib.tools`: `distributions()` lists the name and the folder of each distribution, and "
        "`percent(part, whole)` makes a share of two numbers. Count every line of every `*.py` file in a "
        f"distribution's folder and its subfolders. Write `{REPORT}` into the current directory, with one "
        "Markdown table: distribution, files, lines, share in percent, and the sum below it. Then say in "
        "two sentences what you found."
    )


def _offer_tools(distributions: list[Distribution]) -> None:
    """Decorate the two tools; a patched client offers them like those of any program."""
    from agentd_tools import tool

    @tool(name="distributions")
    def list_distributions() -> list[DistributionInfo]:
        """List the distributions of this repository: the name and the folder of each."""
        return [{"name": item.name, "folder": str(item.folder)} for item in distributions]

    @tool
    def percent(part: float, whole: float) -> float:
        """Say how many percent of a whole a part is, with one decimal.

        part: the part
        whole: the whole, not zero
        """
        return round(100 * part / whole, 1)


def _relay(events: Iterator[Event], emit: Callable[[Event], None]) -> None:
    """Pass the events on, and close them with the sum of what they told."""
    usage, turns, text = Usage(), 0, ""
    for event in events:
        emit(event)
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, TurnEnd):
            usage, turns = usage + event.usage, turns + 1
    emit(RunEnd(text=text, turns=turns, usage=usage))


def _problems(report: Path, distributions: list[Distribution]) -> list[str]:
    try:
        text = report.read_text("utf-8", "replace")
    except OSError as error:
        return [f"there is no report at {report}: {error.strerror}"]
    return [f"{REPORT} lacks or misstates {line}" for line in wrong_lines(text, distributions)]
