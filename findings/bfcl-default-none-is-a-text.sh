#!/usr/bin/env bash
# One would expect: the default that a function's schema in BFCL v4 gives a parameter is the function's own, so that a caller who sends
# it does what a caller does who sends nothing.
#
# What happens (bfcl-eval 2026.3.23, CPython 3.11, Linux, 2026-11-30): for nine parameters of the multi-turn APIs the schema's default is
# the text "None", where the function's is None. Who fills in what the schema says looks for files that are called None, say, and finds
# nothing: four of the 800 conversations then end otherwise. Output seen:
#
#   gorilla_file_system: find(name): the schema's default is 'None', the function's is None
#   9 parameters
#
# This script runs that and fails if it changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# --no-deps: the data and what reads it here need none of the packages that it asks for
"$folder/venv/bin/pip" --disable-pip-version-check install -q --no-deps bfcl-eval==2026.3.23

cat >"$folder/defaults.py" <<'PYTHON'
import ast
import json
import sys
from pathlib import Path

package = Path(sys.argv[1])
sources = package / "eval_checker" / "multi_turn_eval" / "func_source_code"
wrong = 0
for path in sorted((package / "data" / "multi_turn_func_doc").glob("*.json")):
    source = sources / path.with_suffix(".py").name
    if not source.is_file():
        continue
    real = {}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            names = [a.arg for a in node.args.args]
            given = names[len(names) - len(node.args.defaults) :]
            for name, default in zip(given, node.args.defaults):
                real[node.name, name] = ast.literal_eval(default)
    for line in path.read_text(encoding="utf-8").splitlines():
        doc = json.loads(line)
        for name, schema in doc["parameters"]["properties"].items():
            if schema.get("default") == "None" and real.get((doc["name"], name), "") is None:
                wrong += 1
                if doc["name"] == "find":
                    print(f"{path.stem}: {doc['name']}({name}): the schema's default is 'None', the function's is None")
print(f"{wrong} parameters")
PYTHON
cd "$folder"
"$folder/venv/bin/python" defaults.py "$(echo "$folder"/venv/lib/python3*/site-packages/bfcl_eval)" | tee said
printf '%s\n' "gorilla_file_system: find(name): the schema's default is 'None', the function's is None" '9 parameters' >expected
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
