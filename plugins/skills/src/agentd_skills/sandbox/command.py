"""The `skills` command inside the sandbox. Standard library only.

skills list [--all]              the skills, with what they are for; --all: those for people only, too
skills frontmatter SKILL         a skill's metadata
skills read SKILL [FILE]         a skill's whole document, or another file of its folder
skills search [-n N] WORDS       the tools and documents that fit the words, best first; at most N (10)
skills run SKILL SCRIPT [ARGS]   run a skill's script
skills exec                      run Python from standard input, tools importable
skills show FILE...              look at pictures, if this session shows any
Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import os
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
        "list": (show_list, 0, 1),
        "frontmatter": (show_frontmatter, 1, 1),
        "read": (show_document, 1, 2),
        "search": (show_search, 1, None),
        "run": (run_script, 2, None),
        "exec": (run_input, 0, 0),
        "show": (show_pictures, 1, None),
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
    """Return the names of the folders that have a document, sorted."""
    from _frontmatter import document_name, names_in  # type: ignore[import-not-found]  # it lies beside this file

    return [n for n in sorted(os.listdir(ROOT)) if document_name(names_in(os.path.join(ROOT, n)))]


def offered() -> list[str]:
    """Return the skills that the model is to know of: without those that their authors keep for people."""
    return [skill for skill in skills() if offered_document(skill) is not None]


def offered_document(folder: str) -> str | None:
    """Return the document of a skill that the model is to know of; None if it is for people only."""
    from _frontmatter import is_hidden

    text = document(folder)
    return None if is_hidden(text) else text


def find(skill: str) -> str:
    """Return the folder of a skill that is named by its folder, or by the name in its document."""
    from _frontmatter import field

    known = skills()
    if skill in known:
        return skill
    names = {folder: str(field(document(folder), "name")) for folder in known}
    for folder in known:
        if names[folder] == skill:
            return folder
    for folder in known:
        if skill.lower() in (folder.lower(), names[folder].lower()):
            return folder
    raise UsageError(f"unknown skill {skill!r}; there are: {', '.join(known) or 'none'}")


def document(folder: str) -> str:
    """Return a skill's document as text."""
    from _frontmatter import document_name, names_in

    path = os.path.join(ROOT, folder)
    with open(os.path.join(path, document_name(names_in(path))), encoding="utf-8", errors="replace") as file:
        return file.read()


def about(folder: str) -> str:
    """Return what a skill is for, in one line."""
    from _frontmatter import field

    return " ".join(field(document(folder), "description").split())


def show_pictures(*paths: str) -> int:
    """Show the model pictures."""
    from importlib import import_module

    sys.path.insert(0, ROOT)
    library = import_module("lib._show")
    for path in paths:
        try:
            library.show(path)
        except (OSError, ValueError, library.ToolError) as problem:
            print(f"skills: {path}: {problem}", file=sys.stderr)
            return 1
    return 0


def show_list(*options: str) -> None:
    """Print every skill with its description."""
    from _frontmatter import field

    if options not in ((), ("--all",)):
        raise UsageError(f"unknown option {options[0]!r}; there is: --all")
    for skill in skills() if options else offered():
        name = field(document(skill), "name")
        called = f" ({name})" if name and name != skill else ""
        print(f"{skill}{called}: {about(skill)}")


def show_frontmatter(skill: str) -> None:
    """Print a skill's frontmatter."""
    from _frontmatter import frontmatter

    print(frontmatter(document(find(skill))))


def show_document(skill: str, file: str = "") -> None:
    """Print a skill's document and where its other files are, or one of these."""
    folder = find(skill)
    if file:
        with open(inside(folder, file), encoding="utf-8", errors="replace") as other:
            print(other.read().rstrip("\n"))
        return
    print(document(folder).rstrip("\n"))
    others = other_files(folder)
    if others:
        print(f"\n[Paths above are relative to {os.path.join(ROOT, folder)}", end="")
        print(f"; `skills read {folder} FILE` prints one of: {', '.join(others)}]")


def other_files(folder: str) -> list[str]:
    """Return the first files of a skill beside its document, unless we wrote it."""
    from _frontmatter import document_name

    if os.path.exists(os.path.join(ROOT, "lib", ".search", f"{folder}.jsonl")):
        return []
    found: list[str] = []
    top = os.path.join(ROOT, folder)
    for base, folders, names in os.walk(top):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths = [os.path.relpath(os.path.join(base, n), top) for n in sorted(names) if not n.startswith(".")]
        found += [path for path in paths if path != document_name([path])]
        if len(found) > 30:
            return [*found[:30], "..."]
    return found


def inside(folder: str, *names: str) -> str:
    """Return the path of the first of these files that a skill has. A link may lead to it, not out of the skill."""
    top = os.path.realpath(os.path.join(ROOT, folder))
    for name in names:
        path = os.path.realpath(os.path.join(top, name))
        if path.startswith(top + os.sep) and os.path.isfile(path):
            return path
    raise UsageError(
        f"the skill {folder!r} has no file {names[0]!r}; there are: {', '.join(other_files(folder)) or 'none'}"
    )


def show_search(*arguments: str) -> int:
    """Print what fits the words, one line each; 1 if nothing does."""
    words, limit = search_options(list(arguments))
    from _search import ranked  # type: ignore[import-not-found]  # it lies beside this file

    found = ranked(ROOT, skills(), offered_document, " ".join(words), limit)
    if found is None:
        raise UsageError("search for what? Give words, e.g.: skills search create issue")
    for hit in found:
        line = hit.line or (about(hit.skill) if hit.call[:1] == "(" else "")
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
    folder = find(skill)
    bases = (os.path.join("scripts", script), script)
    try:
        path = inside(folder, *(f"{base}{suffix}" for base in bases for suffix in ("", ".py")))
    except UsageError:
        listed = scripts(os.path.join(ROOT, folder))
        raise UsageError(f"the skill {skill!r} has no script {script!r}; there are: {listed}") from None
    if path.endswith(".py"):
        start([sys.executable, path, *arguments])
    elif os.access(path, os.X_OK):
        start([path, *arguments])
    else:
        start([*(interpreter_of(path) or ["/bin/sh"]), path, *arguments])


def interpreter_of(path: str) -> list[str]:
    """Return what the first line of a script names (`#!/usr/bin/env node`), as a command; empty if it names nothing."""
    with open(path, "rb") as file:
        line = file.readline(256).decode("utf-8", "replace")
    if not line.startswith("#!"):
        return []
    program, _, argument = line[2:].strip().partition(" ")
    return (
        [program, argument.strip()] if argument.strip() else [program]
    )  # one argument, as the kernel does it


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
