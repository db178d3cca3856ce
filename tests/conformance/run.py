"""Run the MCP project's conformance suite against agentd's MCP bridge, a client, and against `agentd mcp`, a server,
with the server behind it whose tools, prompts and resources the scenarios use (`make conformance`).

Each scenario runs under the released suite and under the newest one, there with the 2026-07-28 revision on the
wire where it applies to that. Exits with 1 if a scenario fails that `REASONS` does not explain, or passes although it
does.

    --write        put the tables into docs/conformance.md, between the
                   conformance markers of clients and of servers
    --kind KIND    client or server alone
    --only TEXT    only scenarios whose name contains it (may be repeated)
    --jobs N       how many run at once
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import Request, urlopen

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MODULES: Final = REPOSITORY / ".cache" / "npm" / "node_modules"
NODE: Final = MODULES / ".bin" / "node"
CLIENT: Final = Path(__file__).with_name("client.py")
FIXTURE: Final = Path(__file__).with_name("fixture.py")
MARKS: Final = {"client": "<!-- conformance -->", "server": "<!-- conformance of servers -->"}
TIMEOUT_S: Final = 60


class Suite(NamedTuple):
    """One version of the suite. `revision` is put on the wire where a scenario applies to it."""

    title: str
    package: str
    revision: str = ""


RELEASED: Final = Suite("0.1.16", "@modelcontextprotocol/conformance")
NEXT: Final = Suite("0.2.0-alpha.12", "conformance-next", "2026-07-28")
SUITES: Final = (RELEASED, NEXT)

# Why a scenario fails, where it is known and not agentd's to mend. `*` ends a prefix.
CLIENT_REASONS: Final[dict[str, str]] = {
    "auth/2025-03-26-oauth-metadata-backcompat": (
        "the released suite's server gives an issuer that is not where its metadata was found (RFC 8414, section "
        "3.3), which the SDK refuses; the newer suite has mended that"
    ),
    "auth/dpop*": "an extension that the SDK does not have (proof of possession, RFC 9449)",
    "sep-2640*": "an extension that agentd does not say it has (skills over MCP), so nothing is checked",
}
SERVER_REASONS: Final[dict[str, str]] = {
    "tasks-*": "an extension that `agentd mcp` does not say it has (tasks); it passes none on",
}
REASONS: Final[Mapping[str, Mapping[str, str]]] = {"client": CLIENT_REASONS, "server": SERVER_REASONS}


class Result(NamedTuple):
    """How one scenario ended. `revision` is empty where the suite chose it."""

    scenario: str
    suite: Suite
    revision: str
    passed: bool
    checks: str
    failures: tuple[str, ...]


def scenarios(suite: Suite, kind: str = "client") -> list[tuple[str, str]]:
    """Return the suite's scenarios of a kind, client or server, each with the revision to run it at."""
    listing = subprocess.run(
        [NODE, _program(suite), "list", f"--{kind}"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    _, _, own = listing.partition(f"{kind.capitalize()} scenarios")
    own = re.split(r"^\S.* scenarios", own, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^ +- (\S+) \[(.*)\]$", own, re.MULTILINE)
    return [
        (name, suite.revision if suite.revision in versions.split(",") else "") for name, versions in found
    ]


def run(suite: Suite, scenario: str, revision: str) -> Result:
    """Run one scenario of a client and read what the suite found."""
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(CLIENT))}"
    return _run(
        suite,
        scenario,
        revision,
        ["client", "--command", program, "--timeout", str(TIMEOUT_S * 1000)],
    )


def run_server(suite: Suite, scenario: str, revision: str, url: str) -> Result:
    """Run one scenario of a server against the one at `url` and read what the suite found."""
    return _run(suite, scenario, revision, ["server", "--url", url])


@contextmanager
def serving() -> Iterator[str]:
    """Start `agentd mcp` over HTTP, as a person would, and yield its URL."""
    with tempfile.TemporaryDirectory(prefix="agentd-conformance-") as folder:
        behind = {"mcpServers": {"conformance": {"command": sys.executable, "args": [str(FIXTURE)]}}}
        servers = Path(folder) / "servers.json"
        servers.write_text(json.dumps(behind))
        workspace = str(Path(folder) / "workspace")
        command = [sys.executable, "-m", "agentd", "mcp", "--cwd", workspace, "-e", "subprocess"]
        command += ["--mcp-config", str(servers), "--offer", "tools,prompts,resources"]
        # The suite leaves many of its sessions open.
        command += ["--http", "0", "--max-sandboxes", "1000"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            url = re.search(r"http://\S+", first)
            try:
                if url is None:
                    raise SystemExit(f"agentd mcp does not start: {first}{process.stderr.read()}")
                _call_once(url[0])
                yield url[0]
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=TIMEOUT_S)


def _call_once(url: str) -> None:
    """List the tools as each kind of client without a session: for what a client can be asked, a server behind
    is started when such a client comes for the first time, and the suite waits 0.6 s for some of its answers."""
    for able in ({}, {"elicitation": {}}, {"elicitation": {}, "sampling": {}, "roots": {}}):
        named = {"protocolVersion": NEXT.revision, "clientCapabilities": able}
        meta = {f"io.modelcontextprotocol/{key}": value for key, value in named.items()}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": NEXT.revision,
            "Mcp-Method": "tools/list",
        }
        with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=TIMEOUT_S) as answer:
            answer.read()


def _run(suite: Suite, scenario: str, revision: str, arguments: Sequence[str]) -> Result:
    with tempfile.TemporaryDirectory(prefix="agentd-conformance-") as output:
        command = [NODE, _program(suite), *arguments, "--scenario", scenario, "--output-dir", output]
        if revision:
            command += ["--spec-version", revision]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * TIMEOUT_S
        )
        found = [json.loads(p.read_text()) for p in Path(output).rglob("checks.json")]
        stderr = [p.read_text() for p in Path(output).rglob("stderr.txt")]
    checks: list[dict[str, Any]] = [check for checks in found for check in checks]
    judged = [c for c in checks if c["status"] in ("SUCCESS", "FAILURE", "WARNING")]
    good = [c for c in judged if c["status"] == "SUCCESS"]
    failures = [
        f"{c['id']}: {c.get('errorMessage') or c['description']}" for c in judged if c["status"] != "SUCCESS"
    ]
    if ended.returncode and not failures:
        failures = ["".join(stderr).strip()[-300:] or ended.stdout.strip()[-300:]]
    return Result(
        scenario, suite, revision, ended.returncode == 0, f"{len(good)}/{len(judged)}", tuple(failures)
    )


def reason(scenario: str, kind: str = "client") -> str:
    """Return why the scenario is known to fail, or an empty string."""
    for name, why in REASONS[kind].items():
        if name == scenario or (name.endswith("*") and scenario.startswith(name[:-1])):
            return why
    return ""


def table(results: list[Result], kind: str) -> str:
    """Return the results as Markdown, a row for each scenario."""
    names = list(dict.fromkeys(r.scenario for r in results))
    rows = (_row(results, name, kind) for name in names)
    return "\n".join([_counts(results, kind), *_heading("scenario"), *rows])


def _counts(results: list[Result], kind: str) -> str:
    lines = []
    for suite in SUITES:
        own = [r for r in results if r.suite is suite and not _skipped(r)]
        lines.append(
            f"* suite {suite.title}: {sum(r.passed for r in own)} of {len(own)} {kind} scenarios pass\n"
        )
    return "".join(lines)


def _heading(first: str) -> list[str]:
    return [f"| {first} | {' | '.join(s.title for s in SUITES)} | remark |", "|---|---|---|---|"]


def _row(results: list[Result], name: str, kind: str) -> str:
    found = {r.suite: r for r in results if r.scenario == name}
    return f"| `{name}` | {' | '.join(_cell(found.get(suite)) for suite in SUITES)} | {reason(name, kind)} |"


def _skipped(result: Result) -> bool:
    return result.passed and result.checks == "0/0"


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if _skipped(result):
        return "not offered"
    at = f" ({result.revision})" if result.revision else ""
    return f"pass{at}" if result.passed else f"**fails**, {result.checks} checks{at}"


def write(path: Path, text: str, mark: str) -> None:
    """Put the text between the markers of a page."""
    parts = path.read_text().split(mark)
    if len(parts) != 3:
        raise SystemExit(f"{path.name} must have the line {mark} twice: the results go between")
    path.write_text(f"{parts[0]}{mark}\n{text}\n{mark}{parts[2]}")


def main() -> int:
    """Run what was asked for; 1 on a surprise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--kind", choices=[*REASONS], action="append", metavar="client|server")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if not NODE.exists():
        print("the suite is not installed: it needs npm; then run scripts/setup", file=sys.stderr)
        return 2
    kinds = options.kind or [*REASONS]
    return max([_judge(kind, options) for kind in kinds])


def _judge(kind: str, options: argparse.Namespace) -> int:
    began = time.monotonic()
    wanted = [(s, *found) for s in SUITES for found in scenarios(s, kind) if _matches(found[0], options.only)]
    results = []
    with ThreadPoolExecutor(options.jobs) as pool, serving() if kind == "server" else nullcontext() as url:
        jobs = pool.map(lambda job: run(*job) if url is None else run_server(*job, url), wanted)
        for result in jobs:
            results.append(result)
            verdict = "pass" if result.passed else "FAIL"
            print(f"{verdict}  {result.checks:>6}  {result.scenario}  ({result.suite.title})", flush=True)
            for failure in result.failures:
                print(f"          {failure}")
    text = table(results, kind)
    print(f"\n{text}\n\n{len(results)} runs in {time.monotonic() - began:.0f} s")
    if options.write and not options.only:
        write(REPOSITORY / "docs" / "conformance.md", text, MARKS[kind])
    problems = surprises(results, kind)
    print("\n".join(problems))
    return 1 if problems else 0


def surprises(results: Sequence[Result], kind: str) -> list[str]:
    """Return what `REASONS` has not foreseen: failures, and reasons for what passes everywhere."""
    explained = {r.scenario for r in results if reason(r.scenario, kind) and (not r.passed or _skipped(r))}
    failed = [r for r in results if not r.passed and not reason(r.scenario, kind)]
    stale = [r for r in results if r.passed and reason(r.scenario, kind) and r.scenario not in explained]
    return [
        f"unexpected failure: {r.scenario} ({r.suite.title}): {'; '.join(r.failures)}" for r in failed
    ] + [f"passes now, take its reason out: {r.scenario} ({r.suite.title})" for r in stale]


def _program(suite: Suite) -> Path:
    return MODULES / suite.package / "dist" / "index.js"


def _matches(name: str, only: list[str]) -> bool:
    return not only or any(text in name for text in only)


if __name__ == "__main__":
    sys.exit(main())
