"""`make evidence`: what it takes, and the run from the plan to the tables."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import attrs
from output_file import write_output
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evidence import bfcl, charts, dojo, tau2
from evidence.cases import Case
from evidence.curve import cells
from evidence.environment import OURS, REQUIREMENTS, ROOT
from evidence.options import NAMES, parse
from evidence.others import OtherSpecs, all_others
from evidence.plan import Job, curve_jobs, spread, table_jobs
from evidence.replay import replay
from evidence.report import Findings, markdown, target_table, write_page
from evidence.results import Results
from evidence.tokens import counter
from evidence.ways import USUAL

__all__ = ["main"]

DATA_SETS: Final = (bfcl.BFCL, *tau2.TAU2, dojo.DOJO)
assert tuple(data_set.name for data_set in DATA_SETS) == NAMES
PACKAGES: Final = (
    "bfcl-eval",
    "inspect-evals",
    "inspect-ai",
    "agentdojo",
    "bpe-openai",
    "openai",
    "agentd-core",
)
PAGE: Final = ROOT / "docs" / "evidence-tasks.md"
TARGETS_PAGE: Final = ROOT / "docs" / "performance.md"
AT_ONCE: Final = 3
"""How many replays run at the same time: they wait for processes more than they compute."""


@attrs.frozen
class Size:
    """How many cases of a data set there are in the table and in a column of the curve, and of AgentDojo's attacks."""

    table: int | None
    curve: int
    attacks: int | None


FULL: Final = Size(table=None, curve=2, attacks=None)
QUICK: Final = Size(table=4, curve=1, attacks=4)


def made_of() -> dict[str, str]:
    """Return the versions of what the results depend on, and a digest of the sources of both sides."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.read_bytes())
    versions = {name: version(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **versions, "sources": digest.hexdigest()[:16]}


def sources() -> list[Path]:
    """Return the files of which each may change a result: of all our distributions that a replay runs on, what replays,
    and the versions of everything else."""
    files = [path for folder in OURS for path in (ROOT / folder / "src").rglob("*.py")]
    here = Path(__file__).parent
    names = ("bfcl", "cases", "dojo", "others", "replay", "scripted_client", "tau2", "tokens", "ways")
    return sorted([*files, *(here / f"{name}.py" for name in names), REQUIREMENTS])


class Runner:
    """Makes replays that have no result yet.

    :param so_far: make none, and go by the results that there are; `missing` counts those that there are not.
    """

    def __init__(self, results: Results, progress: Progress, *, so_far: bool) -> None:
        self._results, self._progress, self._so_far = results, progress, so_far
        self.missing = 0

    async def run(
        self, title: str, wanted: Mapping[str, Callable[[], Awaitable[dict[str, Any]]]]
    ) -> dict[str, Any]:
        """Return the results by key.

        :param wanted: what makes each of them.
        """
        if self._so_far:
            made = {key: found for key in wanted if (found := self._results.get(key)) is not None}
            self.missing += len(wanted) - len(made)
            return made
        bar = self._progress.add_task(title, total=len(wanted))
        left = iter([key for key in wanted if self._results.get(key) is None])
        self._progress.update(bar, advance=sum(self._results.get(key) is not None for key in wanted))

        async def worker() -> None:
            for key in left:
                self._results.put(key, await wanted[key]())
                self._progress.update(bar, advance=1)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return {key: self._results.get(key) for key in wanted}


async def replayed(job: Job, others: OtherSpecs | None, count: Callable[[str], int]) -> dict[str, Any]:
    """Return a job's result as JSON has it; empty if the case uses more tools than there are to be."""
    chosen, more = None, None
    if job.offered:
        assert others is not None
        filled = others.fill(job.case, job.offered)
        if filled is None:
            return {}
        chosen, more = filled
    found = await replay(job.case, job.way, count, chosen=chosen, others=more)
    return attrs.asdict(found)


async def find(
    size: Size, results: Results, only: Sequence[str], progress: Progress, *, so_far: bool = False
) -> Findings:
    """Make all replays and attacks."""
    runner, count = Runner(results, progress, so_far=so_far), counter()
    loading = progress.add_task("load the data sets", total=len(DATA_SETS))
    cases: dict[str, list[Case]] = {}
    for data_set in DATA_SETS:
        if not only or any(text in data_set.name for text in only):
            cases[data_set.name] = list(data_set.cases())
        progress.update(loading, advance=1)
    others = all_others(DATA_SETS, bfcl.single_functions())

    table: dict[str, dict[Any, list[Any]]] = {}
    curve: list[Any] = []
    for name, some in cases.items():
        jobs = list(table_jobs(some, size.table))
        made = await runner.run(name, {j.key: (lambda j=j: replayed(j, None, count)) for j in jobs})
        kept = whole_groups(jobs, made)
        table[name] = {way: [made[j.key] for j in kept if j.way == way] for way in USUAL}
    for name, some in cases.items():
        jobs = list(curve_jobs(some, size.curve))
        made = await runner.run(
            f"{name}, curve", {j.key: (lambda j=j: replayed(j, others, count)) for j in jobs}
        )
        kept = whole_groups(jobs, made)
        curve += [(j.offered, j.column, j.way, made[j.key]) for j in kept if made[j.key]]

    attacks: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    if "agentdojo" in cases:
        tasks = spread(list(dojo.user_tasks()), size.attacks)
        for policy in attacks:
            wanted = {f"attack/{key}/{policy}": _attack(name, task, policy) for name, key, task in tasks}
            title = f"injected tasks, {'ask-writes' if policy else 'no policy'}"
            for counts in (await runner.run(title, wanted)).values():
                attacks[policy] += Counter(counts)
    return Findings(
        table={name: ways for name, ways in table.items() if ways["json"]},
        tasks={name: sum(case.calls > 0 for case in some) for name, some in cases.items()},
        cells=cells(curve),
        attacks=attacks,
        made_of=made_of(),
        date=time.strftime("%Y-%m-%d"),
        is_quick=size is QUICK,
        missing=runner.missing,
        only=only,
    )


def whole_groups(jobs: Sequence[Job], made: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of cases that have a result in every way, so that ways are compared over the same cases."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.case.id, job.offered), []).append(job)
    return [job for group in groups.values() if all(j.key in made for j in group) for job in group]


def _attack(suite: str, task: Any, policy: bool) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def make() -> dict[str, Any]:
        return dict(await dojo.attack(suite, task, policy=policy))

    return make


def as_json(findings: Findings) -> dict[str, Any]:
    """Return everything that was found, for `--json`."""
    return {
        "made_of": dict(findings.made_of),
        "date": findings.date,
        "quick": findings.is_quick,
        "table": findings.table,
        "curve": [attrs.asdict(cell) for cell in findings.cells],
        "attacks": {
            "ask-writes" if policy else "none": counts for policy, counts in findings.attacks.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 if a checker objected to an end state, for a reason that is not known, or a file could not be written,
    130 if Ctrl-C came."""
    given = parse(arguments)
    console, size = Console(), QUICK if given.quick else FULL
    results = Results(ROOT / ".cache" / "evidence" / "results.jsonl", made_of(), fresh=given.fresh)
    if results.aside:
        console.print(f"results of other versions or sources are not used; they are kept in {results.aside}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            found = asyncio.run(find(size, results, given.only, progress, so_far=given.so_far))
    except KeyboardInterrupt:
        console.print(
            f"stopped; results that are kept: {len(results):,}. The same command goes on, and with "
            "--so-far as well it gives the tables of what there is"
        )
        return 130
    text = markdown(found)
    console.print(Markdown(text))
    objections, written = found.objections, True
    if given.json:
        written = write_output(given.json, json.dumps(as_json(found), indent=1))
    if given.write and not found.is_whole:
        empty = ", ".join(name for name, tasks in found.tasks.items() if not tasks)
        why = f"no task was found in {empty}" if empty else f"{found.missing:,} replays have no result yet"
        console.print(f"--write: nothing is written, as {why}{'' if empty else '; run it without --so-far'}")
        return 2
    if given.write and objections.unknown:
        console.print("--write: nothing is written, as replays were cut short by what a checker objects to:")
    elif given.write:
        write_page(PAGE, text)
        write_page(
            TARGETS_PAGE, target_table(found), "<!-- evidence-targets -->", "<!-- /evidence-targets -->"
        )
        charts.draw(found.cells, ROOT / "docs" / "images")
    for objection in objections.unknown:
        console.print(objection, style="red", markup=False)
    for gone in objections.gone:
        console.print(
            f"{gone}: no longer objected to; take it out of objections.py", style="yellow", markup=False
        )
    return 1 if objections.unknown or not written else 0
