#!/usr/bin/env bash
# One would expect: `pip install pydantic-ai-slim pydantic-ai-harness` gives the newest harness, or an error that says why not.
#
# What happens (pydantic-ai-slim 2.68.0, pydantic-ai-harness 0.62.0, CPython 3.11, Linux, 2026-11-30): newer harnesses ask for one
# exact version of pydantic-ai-slim. pip takes the newest pydantic-ai-slim and goes back through the harness's releases
# to the last one without such a bound, 26 numbers back, without a word. Output seen:
#
#   beside pydantic-ai-slim 2.68.0: pydantic-ai-harness 0.36.0
#   of its own choice: pydantic-ai-slim 2.62.0, pydantic-ai-harness 0.62.0
#
# So the harness has to be asked for by its version, and brings its pydantic-ai. This script has pip choose, without installing, and fails
# if its choice changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
chosen() {
    "$folder/venv/bin/pip" --disable-pip-version-check install -q --dry-run --report "$folder/report" "$@" 2>/dev/null
    "$folder/venv/bin/python" - "$folder/report" <<'PYTHON'
import json
import sys

found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.load(open(sys.argv[1]))["install"]}
print(found["pydantic-ai-slim"], found["pydantic-ai-harness"])
PYTHON
}
read -r slim harness < <(chosen pydantic-ai-slim==2.68.0 "pydantic-ai-harness<=0.62.0")
echo "beside pydantic-ai-slim $slim: pydantic-ai-harness $harness" | tee "$folder/said"
read -r slim harness < <(chosen pydantic-ai-harness==0.62.0)
echo "of its own choice: pydantic-ai-slim $slim, pydantic-ai-harness $harness" | tee -a "$folder/said"
cat >"$folder/expected" <<'TEXT'
beside pydantic-ai-slim 2.68.0: pydantic-ai-harness 0.36.0
of its own choice: pydantic-ai-slim 2.62.0, pydantic-ai-harness 0.62.0
TEXT
if ! diff "$folder/expected" "$folder/said"; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
