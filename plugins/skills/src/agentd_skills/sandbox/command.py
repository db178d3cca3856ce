"""The `skills` command inside the sandbox. Standard library only.

skills list                      the skills, with what they are for
skills frontmatter SKILL         a skill's metadata
skills read SKILL                a skill's whole document
skills search [-n N] WORDS       the tools and documents that fit the words, best first; at most N (10)
skills run SKILL SCRIPT [ARGS]   run a skill's script
skills exec                      run Python from standard input, tools importable
Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


class UsageError(Exception):
    """What the person asked for cannot be done; the message says what can."""


def main(arguments: list[str]) -> int:
    """Carry out a command line; return the exit code."""
    commands: dict[str, tuple[Callable[..., int | None], int, int | None]] = {
        "list": (show_list, 0, 0),
        "frontmatter": (show_frontmatter, 1, 1),
        "read": (show_document, 1, 1),
        "search": (show_search, 1, None),
        "run": (run_script, 2, None),
        "exec": (run_input, 0, 0),
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or "").rpartition("\n")[0].rpartition("\n")[0].partition("\n\n")[2])
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a locale may lack what a text has
    try:
        if name not in commands:
            raise UsageError(f"unknown command {name!r}; there are: {', '.join(commands)}")
        function, least, most = commands[name]
        if len(rest) < least or (most is not None and len(rest) > most):
            raise UsageError(f"wrong number of arguments for {name!r}; see: skills --help")
        return function(*rest) or 0
    except UsageError as problem:
        print(f"skills: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `skills list | head` is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def skills() -> list[str]:
    """Return the names of the folders that have a SKILL.md, sorted."""
    names = sorted(os.listdir(ROOT))
    return [n for n in names if os.path.isfile(os.path.join(ROOT, n, "SKILL.md"))]


def document(skill: str) -> str:
    """Return a skill's SKILL.md as text."""
    known = skills()
    if skill not in known:
        raise UsageError(f"unknown skill {skill!r}; there are: {', '.join(known) or 'none'}")
    with open(os.path.join(ROOT, skill, "SKILL.md"), encoding="utf-8", errors="replace") as file:
        return file.read()


def frontmatter(text: str) -> str:
    """Return the lines between the first two `---`."""
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", text, re.DOTALL | re.MULTILINE)
    return match[1].rstrip() if match else ""


def field(text: str, name: str) -> str:
    """Return one top-level value of a frontmatter: plain, quoted, or folded over indented lines."""
    match = re.search(rf"^{name}:[ \t]*(.*(?:\n[ \t]+.*)*)", frontmatter(text), re.MULTILINE)
    value = " ".join(match[1].split()) if match else ""
    value = re.sub(r"^[>|][+-]? ", "", value)
    if value[:1] == '"' == value[-1:] and len(value) > 1:
        import json

        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    if value[:1] == "'" == value[-1:] and len(value) > 1:
        return value[1:-1].replace("''", "'")
    return value


def show_list() -> None:
    """Print every skill with its description."""
    for skill in skills():
        print(f"{skill}: {field(document(skill), 'description')}")


def show_frontmatter(skill: str) -> None:
    """Print a skill's frontmatter."""
    print(frontmatter(document(skill)))


def show_document(skill: str) -> None:
    """Print a skill's document."""
    print(document(skill).rstrip("\n"))


def show_search(*arguments: str) -> int:
    """Print what fits the words, one line each; 1 if nothing does."""
    words, limit = search_options(list(arguments))
    from _search import ranked  # type: ignore[import-not-found]  # it lies beside this file

    found = ranked(ROOT, skills(), document, " ".join(words), limit)
    if found is None:
        raise UsageError("search for what? Give words, e.g.: skills search create issue")
    for hit in found:
        line = hit.line or (field(document(hit.skill), "description") if hit.call[:1] == "(" else "")
        print(f"{hit.skill}  {hit.call}" + (f"  - {line}" if line else ""))
    if not found:
        print(f"nothing fits {' '.join(words)!r}; try other words, or: skills list", file=sys.stderr)
    return 0 if found else 1


def search_options(arguments: list[str]) -> tuple[list[str], int]:
    """Take `-n N` out of the arguments."""
    limit, words = "10", []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            words += arguments
            break
        if argument.startswith("-n") and (argument == "-n" or argument[2:].isdecimal()):
            limit = argument[2:] or (arguments.pop(0) if arguments else "")
        else:
            words.append(argument)
    if not (limit.isdecimal() and 0 < int(limit[:9]) <= 1000):
        raise UsageError(f"-n must be a number from 1 to 1000, got {limit!r}")
    return words, int(limit)


def run_script(skill: str, script: str, *arguments: str) -> None:
    """Replace this process by a script of a skill."""
    document(skill)  # says which skills there are, if this is none
    folder = os.path.realpath(os.path.join(ROOT, skill))
    candidates = [
        os.path.realpath(os.path.join(base, f"{script}{suffix}"))
        for base in (os.path.join(folder, "scripts"), folder)
        for suffix in ("", ".py")
    ]
    inside = [c for c in candidates if c.startswith(folder + os.sep) and folder.startswith(ROOT + os.sep)]
    path = next((c for c in inside if os.path.isfile(c)), None)
    if path is None:
        raise UsageError(f"the skill {skill!r} has no script {script!r}; there are: {scripts(folder)}")
    if path.endswith(".py"):
        start([sys.executable, path, *arguments])
    elif os.access(path, os.X_OK):
        start([path, *arguments])
    else:
        start(["/bin/sh", path, *arguments])


def scripts(folder: str) -> str:
    """Return the names of a skill's scripts in one line."""
    try:
        return ", ".join(sorted(os.listdir(os.path.join(folder, "scripts")))[:50]) or "none"
    except OSError:
        return "none"


def run_input() -> None:
    """Replace this process by Python that reads its program from standard input."""
    start([sys.executable, "-"])


def start(command: list[str]) -> None:
    """Replace this process, with the skills folder importable."""
    path = os.environ.get("PYTHONPATH", "")
    if ROOT not in path.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (path, ROOT) if p)
    sys.stdout.flush()
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
