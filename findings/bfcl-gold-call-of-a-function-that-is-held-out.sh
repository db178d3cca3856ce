#!/usr/bin/env bash
# One would expect: in BFCL v4's category "missing functions", the gold calls of a turn use functions that the model has been
# given by then; those of `missed_function` come later, and the turn without gold calls is the one that needs them.
#
# What happens (bfcl-eval 2026.3.23, CPython 3.11, Linux, 2026-11-30): in one of the 200 conversations a function is wanted two
# turns before it is given. No model that is given what the case says can make that call. Output seen:
#
#   multi_turn_miss_func_49: turn 1 wants tail, which is given in turn 3
#   1 of 200
#
# This script runs that and fails if it changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# --no-deps: the data and what reads it here need none of the packages that it asks for
"$folder/venv/bin/pip" --disable-pip-version-check install -q --no-deps bfcl-eval==2026.3.23

cat >"$folder/held.py" <<'PYTHON'
import json
import sys
from pathlib import Path

data = Path(sys.argv[1])


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


name = "BFCL_v4_multi_turn_miss_func.json"
gold = {entry["id"]: entry["ground_truth"] for entry in lines(data / "possible_answer" / name)}
found = set()
for entry in lines(data / name):
    given = {function: int(turn) for turn, names in entry["missed_function"].items() for function in names}
    for turn, calls in enumerate(gold[entry["id"]]):
        for call in calls:
            function = call.partition("(")[0]
            if given.get(function, 0) > turn:
                print(f"{entry['id']}: turn {turn} wants {function}, which is given in turn {given[function]}")
                found.add(entry["id"])
print(f"{len(found)} of {len(gold)}")
PYTHON
cd "$folder"
"$folder/venv/bin/python" held.py "$(echo "$folder"/venv/lib/python3*/site-packages/bfcl_eval/data)" | tee said
printf '%s\n' 'multi_turn_miss_func_49: turn 1 wants tail, which is given in turn 3' '1 of 200' >expected
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
