"""Run the MCP project's client conformance suite against agentd's MCP bridge (`make conformance`).

Each scenario runs under the released suite and under the newest one, there with the 2026-07-28 revision on the
wire where it applies to that. Exits with 1 if a scenario fails that `REASONS` does not explain, or passes although it
does.

    --write        put the table into docs/conformance.md, between the
                   conformance markers
    --only TEXT    only scenarios whose name contains it (may be repeated)
    --jobs N       how many run at once
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MODULES: Final = REPOSITORY / ".cache" / "npm" / "node_modules"
NODE: Final = MODULES / ".bin" / "node"
CLIENT: Final = Path(__file__).with_name("client.py")
MARK: Final = "<!-- conformance -->"
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
REASONS: Final[dict[str, str]] = {
    "auth/2025-03-26-oauth-metadata-backcompat": (
        "the released suite's server gives an issuer that is not where its metadata was found (RFC 8414, section "
        "3.3), which the SDK refuses; the newer suite has mended that"
    ),
    "auth/dpop*": "an extension that the SDK does not have (proof of possession, RFC 9449)",
    "sep-2640*": "an extension that agentd does not say it has (skills over MCP), so nothing is checked",
}


class Result(NamedTuple):
    """How one scenario ended. `revision` is empty where the suite chose it."""

    scenario: str
    suite: Suite
    revision: str
    passed: bool
    checks: str
    failures: tuple[str, ...]


def scenarios(suite: Suite) -> list[tuple[str, str]]:
    """Return the suite's client scenarios, each with the revision to run it at."""
    listing = subprocess.run(
        [NODE, _program(suite), "list", "--client"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    _, _, client = listing.partition("Client scenarios")
    client = client.partition("Authorization server scenarios")[0]
    found = re.findall(r"^ +- (\S+) \[(.*)\]$", client, re.MULTILINE)
    return [
        (name, suite.revision if suite.revision in versions.split(",") else "") for name, versions in found
    ]


def run(suite: Suite, scenario: str, revision: str) -> Result:
    """Run one scenario and read what the suite found."""
    with tempfile.TemporaryDirectory(prefix="agentd-conformance-") as output:
        command = [NODE, _program(suite), "client", "--scenario", scenario, "--output-dir", output]
        command += ["--command", f"{shlex.quote(sys.executable)} {shlex.quote(str(CLIENT))}"]
        command += ["--timeout", str(TIMEOUT_S * 1000)]
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


def reason(scenario: str) -> str:
    """Return why the scenario is known to fail, or an empty string."""
    for name, why in REASONS.items():
        if name == scenario or (name.endswith("*") and scenario.startswith(name[:-1])):
            return why
    return ""


def table(results: list[Result]) -> str:
    """Return the results as Markdown, a row for each scenario."""
    names = list(dict.fromkeys(r.scenario for r in results))
    return "\n".join([_counts(results), *_heading("scenario"), *(_row(results, name) for name in names)])


def _counts(results: list[Result]) -> str:
    lines = []
    for suite in SUITES:
        own = [r for r in results if r.suite is suite and not _skipped(r)]
        lines.append(
            f"* suite {suite.title}: {sum(r.passed for r in own)} of {len(own)} client scenarios pass\n"
        )
    return "".join(lines)


def _heading(first: str) -> list[str]:
    return [f"| {first} | {' | '.join(s.title for s in SUITES)} | remark |", "|---|---|---|---|"]


def _row(results: list[Result], name: str) -> str:
    found = {r.suite: r for r in results if r.scenario == name}
    return f"| `{name}` | {' | '.join(_cell(found.get(suite)) for suite in SUITES)} | {reason(name)} |"


def _skipped(result: Result) -> bool:
    return result.passed and result.checks == "0/0"


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if _skipped(result):
        return "not offered"
    at = f" ({result.revision})" if result.revision else ""
    return f"pass{at}" if result.passed else f"**fails**, {result.checks} checks{at}"


def write(path: Path, text: str) -> None:
    """Put the text between the markers of a page."""
    parts = path.read_text().split(MARK)
    if len(parts) != 3:
        raise SystemExit(f"{path.name} must have the line {MARK} twice: the results go between")
    path.write_text(f"{parts[0]}{MARK}\n{text}\n{MARK}{parts[2]}")


def main() -> int:
    """Run what was asked for; 1 on a surprise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if not NODE.exists():
        print("the suite is not installed: it needs npm; then run scripts/setup", file=sys.stderr)
        return 2
    began = time.monotonic()
    wanted = [(s, *found) for s in SUITES for found in scenarios(s) if _matches(found[0], options.only)]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = []
        for result in pool.map(lambda job: run(*job), wanted):
            results.append(result)
            verdict = "pass" if result.passed else "FAIL"
            print(f"{verdict}  {result.checks:>6}  {result.scenario}  ({result.suite.title})", flush=True)
            for failure in result.failures:
                print(f"          {failure}")
    text = table(results)
    print(f"\n{text}\n\n{len(results)} runs in {time.monotonic() - began:.0f} s")
    if options.write and not options.only:
        write(REPOSITORY / "docs" / "conformance.md", text)
    explained = {r.scenario for r in results if reason(r.scenario) and (not r.passed or _skipped(r))}
    surprises = [r.scenario for r in results if not r.passed and not reason(r.scenario)]
    stale = [r.scenario for r in results if r.passed and reason(r.scenario) and r.scenario not in explained]
    for name in surprises:
        print(f"unexpected failure: {name}")
    for name in stale:
        print(f"passes now, take its reason out: {name}")
    return 1 if surprises or stale else 0


def _program(suite: Suite) -> Path:
    return MODULES / suite.package / "dist" / "index.js"


def _matches(name: str, only: list[str]) -> bool:
    return not only or any(text in name for text in only)


if __name__ == "__main__":
    sys.exit(main())
