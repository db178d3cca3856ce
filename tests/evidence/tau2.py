"""tau2's airline, retail and banking: people who call a company's service (data, tools and checkers in
inspect-evals).

A task's gold calls are one list; a turn ends where the person does something, which only banking's tasks have.
What the person would say over the conversation is said at once. The system prompt is tau2's policy. Afterwards,
tau2's scorers carry the gold calls out on a database of their own, and the two databases must have the same hash.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentd.types import ToolSpec
from inspect_ai.tool import ToolDef, ToolError
from inspect_ai.util import Store
from inspect_ai.util._store import init_subtask_store
from inspect_evals.tau2.airline.AirlineAgentTools import AirlineAgentTools
from inspect_evals.tau2.airline.tools import all_airline_tools
from inspect_evals.tau2.banking.agents import _get_domain_policy
from inspect_evals.tau2.banking.BankingAgentTools import BankingAgentTools
from inspect_evals.tau2.banking.BankingUserTools import BankingUserTools
from inspect_evals.tau2.banking.environment import apply_initial_state
from inspect_evals.tau2.banking.scorer import _build_expected_db
from inspect_evals.tau2.banking.tools import all_banking_agent_tools, banking_grep
from inspect_evals.tau2.common.scorer import get_expected_db
from inspect_evals.tau2.common.tools import calculate
from inspect_evals.tau2.data_model.tasks import Action, Task
from inspect_evals.tau2.retail.RetailAgentTools import RetailAgentTools
from inspect_evals.tau2.retail.tools import all_retail_tools
from inspect_evals.tau2.utils import TAU2_DATA_DIR

from evidence.cases import Case, DataSet, GoldCall, GoldTurn

__all__ = ["TAU2"]

DOMAINS: Final = TAU2_DATA_DIR / "domains"
FOLDERS: Final = {"airline": "airline", "retail": "retail", "banking": "banking_knowledge"}
MAKERS: Final = {"airline": all_airline_tools, "retail": all_retail_tools}
CLASSES: Final = {"airline": AirlineAgentTools, "retail": RetailAgentTools, "banking": BankingAgentTools}


@functools.cache
def specs(domain: str) -> tuple[ToolSpec, ...]:
    """Return a domain's tools as inspect tells a model of them."""
    makers = [*all_banking_agent_tools, banking_grep] if domain == "banking" else MAKERS[domain]
    found = [ToolDef(make()) for make in makers]
    return tuple(
        ToolSpec(
            name=tool.name,
            description=tool.description,
            input_schema=json.loads(tool.parameters.model_dump_json(exclude_none=True)),
            source=domain,
        )
        for tool in found
    )


@functools.cache
def initial(domain: str) -> Any:
    """Return a domain's database as it begins."""
    tools = CLASSES[domain](store=Store())
    tools.initialize()
    return tools.db


class Tau2World:
    """A domain's tools on a database of their own."""

    def __init__(self, domain: str, task: Task, actions: Sequence[Sequence[Action]]) -> None:
        self._domain, self._task, self._actions = domain, task, actions
        store = Store()  # else all databases that there ever were stay in inspect's default one
        self._tools = CLASSES[domain](store=store)
        self._tools.db = copy.deepcopy(initial(domain))
        self._tools.initialized = True
        self._user: Any = None
        if domain == "banking":
            self._user = BankingUserTools(store=store)
            self._user.db = self._tools.db
            self._user.initialized = True
            # a copy: it puts parts of the task itself into the database, and the tools change them there
            apply_initial_state(self._tools, self._user, copy.deepcopy(task.initial_state))

    def specs(self) -> Sequence[ToolSpec]:
        return specs(self._domain)

    def begin(self, turn: int) -> bool:
        for action in self._actions[turn]:
            getattr(self._user, action.name)(**action.arguments)
        return False

    def call(self, name: str, arguments: Mapping[str, Any]) -> object:
        try:
            if name == "calculate":
                return _at_once(calculate()(**arguments))
            if name == "transfer_to_human_agents":
                return "Transfer successful"
            return getattr(self._tools, name.removeprefix("banking_"))(**arguments)
        except ToolError as error:
            return f"Error: {error.message}"

    def end(self, turn: int) -> str:
        if turn < len(self._actions) - 1:
            return ""
        same = self._tools.db.get_hash() == _expected_hash(self._domain, self._task)
        return "" if same else "the database is not as tau2's scorer expects it"


def _at_once(coroutine: Any) -> Any:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


_expected: dict[tuple[str, str], str] = {}


def _expected_hash(domain: str, task: Task) -> str:
    key = domain, task.id
    if key not in _expected:
        actions = task.evaluation_criteria.actions or []
        init_subtask_store(Store())  # as above; it is this context's alone
        if domain == "banking":
            _expected[key] = _build_expected_db(actions, copy.deepcopy(task.initial_state)).get_hash()
        else:
            _expected[key] = get_expected_db(domain, actions).db.get_hash()  # type: ignore[arg-type]
    return _expected[key]


def turns_of(domain: str, task: Task) -> tuple[list[GoldTurn], list[list[Action]]]:
    """Return a task's turns, and before each of them what the person does."""
    names = {spec.name.removeprefix("banking_"): spec.name for spec in specs(domain)}
    groups: list[tuple[list[Action], list[GoldCall]]] = [([], [])]
    for action in task.evaluation_criteria.actions or []:
        if action.requestor == "user":
            if groups[-1][1]:
                groups.append(([], []))
            groups[-1][0].append(action)
        else:
            name = names[action.name.removeprefix("banking_")]
            groups[-1][1].append(GoldCall(name, action.arguments))
    wanted = ", ".join(task.evaluation_criteria.communicate_info or [])
    turns = []
    for number, (actions, calls) in enumerate(groups):
        said = [str(task.user_scenario.instructions)] if not number else []
        said += [f"I have done this: {action.name} {json.dumps(action.arguments)}" for action in actions]
        turns.append(GoldTurn("\n\n".join(said), calls, f"Done. {wanted}".strip()))
    return turns, [actions for actions, _ in groups]


def policy(domain: str) -> str:
    return _get_domain_policy() if domain == "banking" else (DOMAINS / domain / "policy.txt").read_text()


def cases(domain: str) -> Iterator[Case]:
    for record in json.loads((DOMAINS / FOLDERS[domain] / "tasks.json").read_text(encoding="utf-8")):
        task = Task.model_validate(record)
        turns, actions = turns_of(domain, task)

        def world(task: Task = task, actions: Any = actions) -> Tau2World:
            return Tau2World(domain, task, actions)

        yield Case(
            id=f"{domain}_{task.id}",
            data_set=f"tau2 {domain}",
            turns=turns,
            world=world,
            instructions=policy(domain),
        )


TAU2: Final = tuple(
    DataSet(
        f"tau2 {domain}",
        "inspect-evals",
        functools.partial(cases, domain),
        functools.partial(lambda domain: {domain: list(specs(domain))}, domain),
    )
    for domain in FOLDERS
)
