#!/usr/bin/env bash
# One would expect: in tau2's banking, an agent that makes just the task's own required calls is scored correct, as the scorer
# makes the same calls on a fresh database and compares the two.
#
# What happens (inspect-evals 0.28.0, inspect-ai 0.3.285, CPython 3.11, Linux, 2026-11-30): task_051 is scored incorrect. The
# initializer merges the task's initial state into the run's database by reference (`_deep_merge` in banking/environment.py), so
# what the run's tools change is changed in the sample's metadata, too; and the scorer starts from there. Output seen:
#
#   as it is: success, task_051 is incorrect
#   with a copy of the initial state: success, task_051 is correct
#
# This script runs both and fails if that changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --disable-pip-version-check install -q)
"${pip[@]}" inspect-ai==0.3.285 openai==3.54.0 toml==0.10.2
"${pip[@]}" --no-deps inspect-evals==0.28.0 # all that it asks for is much, and banking needs none of it

cat >"$folder/gold.py" <<'PYTHON'
import copy
import sys

import inspect_evals.tau2.banking.solver as banking
from inspect_ai import Task, eval
from inspect_ai.model import get_model
from inspect_ai.solver import solver
from inspect_evals.tau2.banking.dataset import read_dataset
from inspect_evals.tau2.banking.environment import get_agent_tools, get_user_tools
from inspect_evals.tau2.banking.scorer import banking_db_match
from inspect_evals.tau2.common.metadata import Tau2MetaData


@solver
def required_calls():
    async def solve(state, generate):
        task = Tau2MetaData.model_validate(state.metadata).task
        for action in task.evaluation_criteria.actions:
            tools = get_agent_tools() if action.requestor == "assistant" else get_user_tools()
            getattr(tools, action.name)(**action.arguments)
        return state

    return solve


apply = banking.apply_initial_state
for words, applied in (
    ("as it is", apply),
    ("with a copy of the initial state", lambda agent, user, state: apply(agent, user, copy.deepcopy(state))),
):
    banking.apply_initial_state = applied
    log = eval(
        Task(
            dataset=read_dataset("BankingAgent").filter(lambda sample: sample.id == "task_051"),
            solver=[banking.banking_initializer(), required_calls()],
            scorer=banking_db_match(),
        ),
        model=get_model("mockllm/model"),
        display="none",
        log_dir=sys.argv[1],
    )[0]
    value = log.samples[0].scores["banking_db_match"].value
    print(f"{words}: {log.status}, task_051 is {'correct' if value == 'C' else 'incorrect'}")
PYTHON
cd "$folder"
"$folder/venv/bin/python" gold.py "$folder/logs" 2>/dev/null | tee said
printf '%s\n' 'as it is: success, task_051 is incorrect' \
    'with a copy of the initial state: success, task_051 is correct' >expected
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
