"""BFCL v4, multi-turn: 800 conversations on eight small APIs (bfcl-eval).

A turn's gold calls stand in the order in which BFCL carries them out. Tools are the methods of BFCL's own classes;
after each turn, BFCL's own executor carries the gold calls out apart, and its checkers (`state_checker`,
`response_checker`) compare states and results. What a call raises is the text that BFCL's executor makes of it.

Every description begins with the same sentence about the API ("This tool belongs to ..."). It is left out in all
ways, which spares the JSON schemas tokens: the signatures of code show first sentences only.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentd.types import ToolSpec
from bfcl_eval.constants.default_prompts import DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC as MORE_TOOLS
from bfcl_eval.constants.executable_backend_config import (
    CLASS_FILE_PATH_MAPPING,
    MULTI_TURN_FUNC_DOC_FILE_MAPPING,
    STATELESS_CLASSES,
)
from bfcl_eval.constants.type_mappings import GORILLA_TO_OPENAPI
from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils
from bfcl_eval.utils import MULTI_TURN_FUNC_DOC_PATH, load_dataset_entry, load_ground_truth_entry

from evidence.cases import Case, DataSet, GoldCall, GoldTurn

__all__ = ["BFCL", "single_functions"]

CATEGORIES: Final = ("base", "long_context", "miss_func", "miss_param")
SINGLE: Final = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple")
ASK_BACK: Final = "I cannot do that with what I have. What is missing?"
"""The answer where the gold calls are none: a function or a parameter is missing."""


def spec_of(doc: Mapping[str, Any], source: str) -> ToolSpec:
    """Return a tool of BFCL's function document, with the types that JSON Schema knows."""
    _, _, described = doc["description"].rpartition("Tool description: ")
    return ToolSpec(
        name=doc["name"], description=described, input_schema=_schema(doc["parameters"]), source=source
    )


def _schema(node: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in node.items() if key not in ("optional", "enum_description")}
    if isinstance(made.get("type"), str):
        made["type"] = GORILLA_TO_OPENAPI.get(made["type"], "string")
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {name: _schema(part) for name, part in made["properties"].items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"])
    return made


def documents(class_name: str) -> list[dict[str, Any]]:
    """Return BFCL's documents of a class's functions."""
    path = MULTI_TURN_FUNC_DOC_PATH / MULTI_TURN_FUNC_DOC_FILE_MAPPING[class_name]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def single_functions() -> Iterator[ToolSpec]:
    """Give the functions of the single-turn categories, which have no server or class that they belong to."""
    for category in SINGLE:
        for entry in load_dataset_entry(category, include_language_specific_hint=False):
            yield from (spec_of(doc, "") for doc in entry["function"])


class BfclWorld:
    """BFCL's classes in the state of one case, and a second set of them that only BFCL's executor touches."""

    def __init__(self, entry: Mapping[str, Any], gold: Sequence[Sequence[str]]) -> None:
        self._entry, self._gold = entry, gold
        self._long = "long_context" in entry["id"]
        self._instances = {name: self._instance(name) for name in entry["involved_classes"]}
        self._methods = {
            name: method
            for one in self._instances.values()
            for name, method in inspect.getmembers(one, inspect.ismethod)
            if not name.startswith("_")
        }
        self._hidden = {int(turn): docs for turn, docs in entry.get("missed_function", {}).items()}
        self._results: list[str] = []

    def _instance(self, class_name: str) -> Any:
        made = getattr(importlib.import_module(CLASS_FILE_PATH_MAPPING[class_name]), class_name)()
        if class_name not in STATELESS_CLASSES:
            config = copy.deepcopy(self._entry["initial_config"].get(class_name, {}))
            made._load_scenario(config, long_context=self._long)
        return made

    def specs(self) -> list[ToolSpec]:
        hidden = {doc["name"] for docs in self._hidden.values() for doc in docs}
        return [
            spec_of(doc, name)
            for name in self._entry["involved_classes"]
            for doc in documents(name)
            if doc["name"] not in hidden
        ]

    def begin(self, turn: int) -> bool:
        return bool(self._hidden.pop(turn, None))

    def call(self, name: str, arguments: Mapping[str, Any]) -> object:
        try:
            result = self._methods[name](**arguments)
        except Exception as error:  # as BFCL's executor: the model reads it
            result = f"Error during execution: {error}"
        self._results.append(_as_text(result))
        return result if _is_json(result) else str(result)

    def end(self, turn: int) -> str:
        model = f"gold{id(self)}"
        expected, others = multi_turn_utils.execute_multi_turn_func_call(
            func_call_list=list(self._gold[turn]),
            initial_config=self._entry["initial_config"],
            involved_classes=self._entry["involved_classes"],
            model_name=model,
            test_entry_id=self._entry["id"],
            long_context=self._long,
        )
        if turn == len(self._gold) - 1:  # it keeps its instances as globals
            for name in [name for name in vars(multi_turn_utils) if name.startswith(model)]:
                delattr(multi_turn_utils, name)
        if not self._gold[turn]:
            return ""
        for found in (
            multi_turn_checker.state_checker(self._instances, others),
            multi_turn_checker.response_checker(self._results, expected, turn),
        ):
            if not found["valid"]:
                return f"turn {turn}: {found['error_message']}"
        return ""


def _as_text(result: object) -> str:
    """Return a result as BFCL's executor has it."""
    if isinstance(result, dict):
        try:
            return json.dumps(result)
        except (TypeError, ValueError):
            return str(result)
    return str(result)


def _is_json(result: object) -> bool:
    try:
        json.dumps(result)
    except (TypeError, ValueError):
        return False
    return True


def gold_call(text: str, classes: Sequence[str]) -> GoldCall:
    """Return a gold call, which BFCL writes as Python, with its positional arguments named."""
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call), text
    assert isinstance(node.func, ast.Name), text
    arguments = {str(part.arg): ast.literal_eval(part.value) for part in node.keywords}
    if node.args:
        for class_name in classes:
            module = importlib.import_module(CLASS_FILE_PATH_MAPPING[class_name])
            if method := getattr(getattr(module, class_name), node.func.id, None):
                names = list(inspect.signature(method).parameters)[1:]
                arguments |= zip(names, map(ast.literal_eval, node.args), strict=False)
    return GoldCall(node.func.id, arguments)


def cases() -> Iterator[Case]:
    for category in CATEGORIES:
        name = f"multi_turn_{category}"
        answers = {entry["id"]: entry["ground_truth"] for entry in load_ground_truth_entry(name)}
        for entry in load_dataset_entry(name):
            gold = answers[entry["id"]]
            turns = [
                GoldTurn(
                    text="\n".join(m["content"] for m in said) or MORE_TOOLS,
                    calls=[gold_call(text, entry["involved_classes"]) for text in calls],
                    answer="Done." if calls else ASK_BACK,
                )
                for said, calls in zip(entry["question"], gold, strict=True)
            ]

            def world(entry: Any = entry, gold: Any = gold) -> BfclWorld:
                return BfclWorld(entry, gold)

            yield Case(id=entry["id"], data_set="bfcl", turns=turns, world=world)


def tools() -> dict[str, list[ToolSpec]]:
    """Return the tools of the eight APIs by API."""
    names = list(MULTI_TURN_FUNC_DOC_FILE_MAPPING)[:8]
    return {name: [spec_of(doc, name) for doc in documents(name)] for name in names}


BFCL: Final = DataSet("bfcl", "bfcl-eval", cases, tools)
