"""Fifteen snippets of ordinary Python, each of which leaves `result`: what a side runs of them no machine changes.

They are written as a program is, for CPython and without a thought of any interpreter; each is what models write
when they are asked for a small job.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SNIPPETS", "Snippet"]


@dataclass(frozen=True)
class Snippet:
    """`code` leaves `expected`, as text, in `result`."""

    name: str
    code: str
    expected: str


SNIPPETS = (
    Snippet(
        "classes",
        """class Shape:
    def __init__(self, name):
        self.name = name

    def area(self):
        return 0

    def __repr__(self):
        return f"{self.name}: {self.area()}"


class Square(Shape):
    def __init__(self, side):
        super().__init__("square")
        self.side = side

    def area(self):
        return self.side ** 2

    @property
    def edge(self):
        return 4 * self.side


square = Square(3)
result = f"{square!r} {square.edge}"
""",
        "square: 9 12",
    ),
    Snippet(
        "generators",
        """def numbers():
    total = 0
    while True:
        got = yield total
        total += got


adder = numbers()
next(adder)
result = [adder.send(number) for number in (1, 2, 3)]
""",
        "[1, 3, 6]",
    ),
    Snippet(
        "`with`, context managers",
        """from contextlib import contextmanager

seen = []


@contextmanager
def step(name):
    seen.append(f"begin {name}")
    try:
        yield name.upper()
    finally:
        seen.append(f"end {name}")


with step("a") as upper:
    seen.append(upper)
result = seen
""",
        "['begin a', 'A', 'end a']",
    ),
    Snippet(
        "dataclasses",
        """from dataclasses import dataclass, field, replace


@dataclass(order=True)
class Item:
    price: float
    name: str = ""
    tags: list[str] = field(default_factory=list)


items = sorted([Item(3.5, "pen"), Item(1.25, "clip")])
result = replace(items[0], name="paper clip")
""",
        "Item(price=1.25, name='paper clip', tags=[])",
    ),
    Snippet(
        "decorators",
        """from functools import lru_cache, wraps

calls = 0


def counted(function):
    @wraps(function)
    def inner(*args, **kwargs):
        global calls
        calls += 1
        return function(*args, **kwargs)

    return inner


@lru_cache(maxsize=None)
@counted
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


result = (fibonacci(16), calls, fibonacci.__name__)
""",
        "(987, 17, 'fibonacci')",
    ),
    Snippet(
        "exceptions of one's own",
        """class Missing(LookupError):
    def __init__(self, key):
        super().__init__(f"no {key}")
        self.key = key


def look(key):
    try:
        return {}[key]
    except KeyError as error:
        raise Missing(key) from error


try:
    look("x")
except Missing as error:
    result = (str(error), error.key, type(error.__cause__).__name__)
""",
        "('no x', 'x', 'KeyError')",
    ),
    Snippet(
        "`match`",
        """def said(event):
    match event:
        case {"type": "move", "by": [x, y]}:
            return f"moved {x}, {y}"
        case [first, *rest] if rest:
            return f"{first} and {len(rest)} more"
        case str() as text:
            return text.title()
        case _:
            return "?"


result = [said({"type": "move", "by": [1, 2]}), said([1, 2, 3]), said("ada"), said(7)]
""",
        "['moved 1, 2', '1 and 2 more', 'Ada', '?']",
    ),
    Snippet(
        "json, re, datetime",
        """import json
import re
from datetime import date, timedelta

text = '{"due": "2026-11-30", "note": "call +49 30 1234"}'
task = json.loads(text)
due = date.fromisoformat(task["due"]) + timedelta(days=2)
result = (due.isoformat(), re.sub(r"\\d", "#", task["note"]), due.strftime("%A"))
""",
        "('2026-12-02', 'call +## ## ####', 'Wednesday')",
    ),
    Snippet(
        "collections, itertools",
        """from collections import Counter, defaultdict, deque
from itertools import groupby, islice

words = "the cat and the dog and the bird".split()
by_size = defaultdict(list)
for word in words:
    by_size[len(word)].append(word)
groups = [(key, len(list(group))) for key, group in groupby(sorted(words))]
result = (Counter(words).most_common(1), dict(by_size)[4], list(islice(groups, 2)), deque([1, 2, 3], maxlen=2))
""",
        "([('the', 3)], ['bird'], [('and', 2), ('bird', 1)], deque([2, 3], maxlen=2))",
    ),
    Snippet(
        "files",
        """import csv
from pathlib import Path

path = Path("prices.csv")
with open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["name", "price"])
    writer.writerow(["pen", 3.5])
with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
result = (rows[0]["price"], path.stat().st_size > 0, [found.name for found in Path(".").glob("*.csv")])
""",
        "('3.5', True, ['prices.csv'])",
    ),
    Snippet(
        "`asyncio.run`",
        """import asyncio


async def double(x):
    await asyncio.sleep(0)
    return 2 * x


async def main():
    return await asyncio.gather(*(double(x) for x in range(3)))


result = asyncio.run(main())
""",
        "[0, 2, 4]",
    ),
    Snippet(
        "threads",
        """from concurrent.futures import ThreadPoolExecutor
from threading import Lock

lock = Lock()
total = 0


def add(x):
    global total
    with lock:
        total += x
    return x * x


with ThreadPoolExecutor(max_workers=4) as pool:
    squares = list(pool.map(add, range(5)))
result = (squares, total)
""",
        "([0, 1, 4, 9, 16], 10)",
    ),
    Snippet(
        "subprocess",
        """import subprocess

done = subprocess.run(["sort", "-n"], input="3\\n1\\n2\\n", capture_output=True, text=True, check=True)
result = done.stdout.split()
""",
        "['1', '2', '3']",
    ),
    Snippet(
        "sqlite3",
        """import sqlite3

base = sqlite3.connect(":memory:")
base.execute("create table items (name text, price real)")
base.executemany("insert into items values (?, ?)", [("pen", 3.5), ("clip", 1.25)])
result = base.execute("select name, price from items order by price").fetchone()
""",
        "('clip', 1.25)",
    ),
    Snippet(
        "numpy",
        """import numpy as np

table = np.arange(6).reshape(2, 3)
result = ((table @ table.T).tolist(), float(table.mean()))
""",
        "([[5, 14], [14, 50]], 2.5)",
    ),
)
