"""The ten tasks: what is in the folder before, the task's text, and what is true when it is solved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

__all__ = ["FILES", "TASKS", "LocalTask"]

FILES = {
    "notes.txt": "".join(f"line {n}\n" for n in range(1, 38)),
    "numbers.txt": "".join(f"{n}\n" for n in (17, 4, 250, 33, 8, 61)),
    "report.txt": "quarterly figures\n",
    "a.py": "# TODO: name\nprint('a')\n",
    "b.py": "print('b')\n",
    "c.py": "print('c')  # TODO: more\n",
    "config.ini": "[server]\nhost = foo.local\nport = 8080\nname = foo\n",
    "prices.csv": "item,price\napple,3\nlamp,49\nchair,120\npen,1\n",
    "one.log": "1\n",
    "two.log": "2\n",
}


@attrs.frozen
class LocalTask:
    """A task, and what is true if it is solved: `check(folder, answer)`."""

    text: str
    check: Callable[[Path, str], bool]


def holds(name: str, wanted: str) -> Callable[[Path, str], bool]:
    """Return a check that a file has this text, but for blanks around it."""
    return lambda folder, _: (folder / name).is_file() and (folder / name).read_text().strip() == wanted


def says(*words: str, but: str = "\0") -> Callable[[Path, str], bool]:
    """Return a check that the answer has these words, and not another."""
    return lambda _, answer: all(word in answer for word in words) and but not in answer


def prints_fizz_buzz(folder: Path, _: str) -> bool:
    """Whether the program is right, run in a process of its own with no more than that folder."""
    if not (folder / "fizz.py").is_file():
        return False
    wanted = [
        "FizzBuzz" if n % 15 == 0 else "Fizz" if n % 3 == 0 else "Buzz" if n % 5 == 0 else str(n)
        for n in range(1, 16)
    ]
    ran = subprocess.run(
        [sys.executable, "-I", "fizz.py"], cwd=folder, capture_output=True, text=True, timeout=10, check=False
    )
    return ran.stdout.split() == wanted


TASKS = (
    LocalTask("What does the last line of notes.txt say?", says("line 37")),
    LocalTask(
        "Create a file hello.txt that contains the text: hello world", holds("hello.txt", "hello world")
    ),
    LocalTask("What is the sum of the numbers in numbers.txt? There is one on each line.", says("373")),
    LocalTask(
        "Rename the file report.txt to report-old.txt.",
        lambda folder, _: (folder / "report-old.txt").is_file() and not (folder / "report.txt").exists(),
    ),
    LocalTask("Which .py files here contain the word TODO?", says("a.py", "c.py", but="b.py")),
    LocalTask("What is the sum of the squares of the numbers from 1 to 100?", says("338350")),
    LocalTask(
        "Replace foo with bar everywhere in config.ini.",
        holds("config.ini", "[server]\nhost = bar.local\nport = 8080\nname = bar"),
    ),
    LocalTask("Which item in prices.csv has the highest price?", says("chair")),
    LocalTask(
        "Write a program fizz.py that prints FizzBuzz for the numbers from 1 to 15, and run it.",
        prints_fizz_buzz,
    ),
    LocalTask(
        "Make a folder archive and move all .log files into it.",
        lambda folder, _: sorted(p.name for p in (folder / "archive").glob("*")) == ["one.log", "two.log"],
    ),
)
