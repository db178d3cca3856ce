"""The measured host: a process that does works of Python programs in threads of its own, for hours.

    python worker.py WORLD WORK...      (started by `programs`)

Each second it writes what it has counted, a line of JSON; it ends when its standard input does.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0:1] = [str(TESTS), str(TESTS / "support")]

from endurance.lanes import Lane  # noqa: E402
from endurance.works import work_named  # noqa: E402
from endurance.world import Place, Tally, World  # noqa: E402

LANES = 2


def main() -> None:
    world = World.read(sys.argv[1])
    place = Place(world, Tally(), random.Random(world.seed + 1))
    made = [work_named(name)(place) for name in sys.argv[2:]]
    lanes = [Lane(f"host-{n}", place, made[n::LANES]) for n in range(min(LANES, len(made)))]
    for lane in lanes:
        lane.start()
    _tell(place)  # it is ready
    threading.Thread(target=_wait_for_the_end, args=(place,), daemon=True).start()
    while not place.stop.wait(1):
        _tell(place)
    for lane in lanes:
        lane.end()
    _tell(place)


def _tell(place: Place) -> None:
    print(json.dumps(place.tally.take()), flush=True)


def _wait_for_the_end(place: Place) -> None:
    sys.stdin.read()
    place.stop.set()


if __name__ == "__main__":
    main()
