#!/usr/bin/env bash
# One would expect: the calls that a task of tau2's banking requires are ones that its tools carry out.
#
# What happens (inspect-evals 0.28.0, inspect-ai 0.3.285, CPython 3.11, Linux, 2026-11-30): in three tasks the tools refuse them.
# task_083 requires four disputes without `customer_max_liability_amount`, which the tool requires; it is scored by its calls,
# whose arguments must be equal, so an agent that gives the amount, and whose disputes are filed, is wrong. task_077 unlocks and calls
# a tool that cannot be unlocked, and task_051 makes the same request twice. Output seen:
#
#   task_051: Error: A similar request may already exist. (1 times)
#   task_077: Error: Unknown agent tool 'get_credit_card_accounts_by_user'. This tool is not available. (2 times)
#   task_083: missing 1 required positional argument: 'customer_max_liability_amount' (4 times)
#
# This script runs that and fails if it changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --disable-pip-version-check install -q)
"${pip[@]}" inspect-ai==0.3.285 openai==3.54.0 toml==0.10.2
"${pip[@]}" --no-deps inspect-evals==0.28.0 # all that it asks for is much, and banking needs none of it

cat >"$folder/required.py" <<'PYTHON'
import copy
import re
from collections import Counter

from inspect_ai.util import Store
from inspect_evals.tau2.banking.BankingAgentTools import BankingAgentTools
from inspect_evals.tau2.banking.BankingUserTools import BankingUserTools
from inspect_evals.tau2.banking.dataset import read_dataset
from inspect_evals.tau2.banking.environment import apply_initial_state
from inspect_evals.tau2.common.metadata import Tau2MetaData

refused = Counter()
for sample in read_dataset("BankingAgent"):
    task = Tau2MetaData.model_validate(sample.metadata).task
    store = Store()
    agent, user = BankingAgentTools(store=store), BankingUserTools(store=store)
    agent.initialize()
    user.db, user.initialized = agent.db, True
    apply_initial_state(agent, user, copy.deepcopy(task.initial_state))
    for action in task.evaluation_criteria.actions or []:
        if action.name != "transfer_to_human_agents":
            tools = agent if action.requestor == "assistant" else user
            said = getattr(tools, action.name)(**action.arguments)
            if isinstance(said, str) and said.startswith("Error"):
                refused[sample.id, re.sub(r"^.*\(\) (?=missing)", "", said)] += 1
for (task_id, said), times in sorted(refused.items()):
    print(f"{task_id}: {said} ({times} times)")
PYTHON
cd "$folder"
"$folder/venv/bin/python" required.py 2>/dev/null | tee said
cat >expected <<'EXPECTED'
task_051: Error: A similar request may already exist. (1 times)
task_077: Error: Unknown agent tool 'get_credit_card_accounts_by_user'. This tool is not available. (2 times)
task_083: missing 1 required positional argument: 'customer_max_liability_amount' (4 times)
EXPECTED
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
