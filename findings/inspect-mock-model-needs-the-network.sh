#!/usr/bin/env bash
# One would expect: an eval with inspect_ai's mock model ("mockllm/model"), which is there so that evals can be tried without
# any provider, runs without a network.
#
# What happens (inspect_ai 0.3.285, tiktoken 0.14.0, CPython 3.11, Linux, 2026-11-30): the eval ends with the status
# "error". An output that says nothing of its usage has its tokens counted with tiktoken, whose table is fetched from the
# network on the first use. Output seen:
#
#   without usage: error, ProxyError
#   with usage: success
#
# So outputs for such an eval are made with `usage=ModelUsage(...)`. This script runs both with a proxy that refuses
# everything, and fails if that changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -q inspect-ai==0.3.285 openai==3.54.0 tiktoken==0.14.0

cat >"$folder/mock.py" <<'PYTHON'
import re
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate

for words, usage in (("without", None), ("with", ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2))):
    output = ModelOutput.from_content("mockllm/model", "hello")
    output.usage = usage
    log = eval(
        Task(dataset=[Sample(input="hi", target="hello")], solver=generate()),
        model=get_model("mockllm/model", custom_outputs=[output]),
        display="none",
        log_dir=sys.argv[1],
        max_retries=0,
    )[0]
    why = re.search(r"\w*ProxyError", log.error.message) if log.error else None
    print(f"{words} usage: {log.status}{', ' + why[0] if why else ''}")
PYTHON
cd "$folder"
# nothing listens there
env HTTPS_PROXY=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 TIKTOKEN_CACHE_DIR="$folder/none" \
    "$folder/venv/bin/python" mock.py "$folder/logs" 2>/dev/null | tee said
printf 'without usage: error, ProxyError\nwith usage: success\n' >expected
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
