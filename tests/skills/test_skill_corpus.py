"""What MCP servers really send: every tool of the corpus can be read, imported, checked and called."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from agentd_skills.bindings import tools_module
from agentd_testing import strategies as schemas
from agentd_tools import bind
from corpus import CORPUS, NOTES, many
from hypothesis import HealthCheck, given, settings

SOURCE = tools_module(bind(CORPUS))
CALL_ALL = """
import inspect, json, sys
import lib._bridge
calls = []
lib._bridge.call = lambda name, arguments: calls.append([name, arguments])
lib._bridge.call_given = lambda name, arguments: lib._bridge.call(
    name, {k: v for k, v in arguments.items() if v is not ...})
from lib.tools import *
import lib.tools
for name in lib.tools.__all__:
    if name.startswith("Tool") or name == "UnknownToolError":
        continue
    function = globals()[name]
    named = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    function(**{p.name: 7 for p in named})
    function(*[7 for p in named if p.default is p.empty])
print(json.dumps(calls))
"""


def calls_of(directory: Path, code: str = CALL_ALL) -> Any:
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code],
        env={"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def wire_names(spec: ToolSpec) -> set[str]:
    """The argument names of a tool, by a reading of its schema that is not the one under test."""
    schema: Any = spec.input_schema
    parts = [schema, *schema.get("anyOf", [])]
    return {name for part in parts for name in part.get("properties", {})}


def check_tree(directory: Path, tools: list[ToolSpec]) -> None:
    """Every file compiles, every folder is a valid skill, every call arrives under the names of the wire."""
    skills_ref = pytest.importorskip("skills_ref", reason="pip install skills-ref")
    for path in directory.rglob("*.py*"):
        ast.parse(path.read_bytes(), str(path))
        compile(path.read_bytes(), str(path), "exec")
    for folder in directory.iterdir():
        assert folder.name in ("lib", "bin") or skills_ref.validate(folder) == []
    bindings = bind(tools)
    calls = calls_of(directory)
    full, least = calls[::2], calls[1::2]
    assert {c[0] for c in full} == {b.python_name for b in bindings}
    for binding in bindings:
        name, spec = binding.python_name, binding.spec
        ((_, arguments),) = [c for c in full if c[0] == name]
        assert set(arguments) == wire_names(spec)
        ((_, arguments),) = [c for c in least if c[0] == name]
        assert set(arguments) >= set(spec.input_schema.get("required", ()))  # type: ignore[call-overload]


@pytest.mark.parametrize("more", [0, 100], ids=["few tools", "many tools"])
def test_every_tool_of_the_corpus_is_a_function_that_calls_under_the_wires_names(
    tmp_path: Path, more: int
) -> None:
    tools = [*CORPUS, *many(4, more // 4)]
    AgentSkillsRenderer().render(tools, tmp_path, notes=NOTES)
    assert (tmp_path / "lib" / "tools.pyi").exists() == bool(more)
    check_tree(tmp_path, tools)


@pytest.mark.slow
@given(schemas.tool_lists)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_tools_among_many_can_be_imported_by_a_real_python(
    tmp_path_factory: pytest.TempPathFactory, tools: list[ToolSpec]
) -> None:
    directory = tmp_path_factory.mktemp("skills")
    all_tools = [*tools, *many(1, 101)]
    AgentSkillsRenderer().render(all_tools, directory, notes={t.source: t.description for t in tools})
    code = "import json, lib.tools\nfrom lib.tools import *\nprint(json.dumps(list(globals())))"
    names = calls_of(directory, code)
    assert set(names) >= {b.python_name for b in bind(all_tools)}


def test_type_checkers_understand_every_annotation_of_the_corpus(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="pip install mypy")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").touch()
    source = SOURCE.replace("# mypy: ignore-errors\n", "")
    (tmp_path / "lib" / "tools.py").write_text(source)
    (tmp_path / "lib" / "_bridge.pyi").write_text(
        "from typing import Any\ndef call(name: str, arguments: dict[str, Any]) -> Any: ...\n"
        "def call_given(name: str, arguments: dict[str, Any]) -> Any: ...\n"
        "class ToolError(Exception): ...\nclass ToolInputError(ToolError): ...\n"
        "class ToolDeniedError(ToolError): ...\n"
        "class ToolTimeoutError(ToolError): ...\nclass UnknownToolError(ToolError): ...\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--implicit-optional", "lib/tools.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # `= ...` for "left out" is the one thing that a checker must be told to accept
    wrong = [
        line for line in done.stdout.splitlines() if "error:" in line and "Incompatible default" not in line
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "signature",
    [
        "def read_text_file(path: str, tail: float = ..., head: float = ...) -> ReadTextFileResult:",
        "def edit_file(path: str, edits: list[EditFileEditsItem], dryRun: bool = ...) -> EditFileResult:",
        "def list_allowed_directories() -> ListAllowedDirectoriesResult:",
        "def git_log(repo_path: str, max_count: int = ..., start_timestamp: str | None = ...) -> Any:",
        "def read_graph() -> ReadGraphResult:",
        "def get_env() -> Any:",
        "def get_annotated_message(messageType: Literal['error', 'success', 'debug'], includeImage: bool = ...)",
        "def list_issues(owner: str, repo: str, *, after: str = ...",
        "thread_ts: str | None = ..., mrkdwn: bool = ...) -> Any:",
        "def API_patch_block_children(block_id: str, children: list[Paragraph | Column | dict[str, list]], after: ",
        "def API_create_a_page(parent: APICreateAPageParent | APICreateAPageParent1, properties: dict[str, str | f",
        "Icon: APICreateAPageIcon | None = ...",
        "def drafts(three: int, four: float = ..., tuple: list[str | float] = ..., anchored: Literal['x'] = ..., "
        "by_id: bool = ..., dynamic: Literal['x'] = ..., ",
        "anything: Any = ..., nothing: Any = ..., elsewhere: Any = ..., any_of_types: str | float | None = ..., "
        "constrained: str = ..., wrong_default: int = ..., not_a_choice: Literal['a', 'b'] = ..., "
        "null_for_text: str = ...) -> DraftsResult:",
        "def choice(by: Literal['id', 'name'], *, id: str = ..., name: str = ...) -> Any:",
        "def free(**arguments: float) -> Any:",
    ],
)  # fmt: skip
def test_a_tool_of_the_corpus_has_the_signature_a_person_would_give_it(signature: str) -> None:
    assert signature in SOURCE


@pytest.mark.parametrize(
    "declaration",
    [
        # a result that holds itself
        "    class DraftsResult(TypedDict):\n        name: str\n        children: NotRequired[list[DraftsResult]]\n",
        # a field called like a type would hide it from the fields below
        "'list': 'NotRequired[list[str]]'",
        "'__private': 'NotRequired[str]'",
        "    class APICreateAPageParent(TypedDict):\n        type: str\n        page_id: str\n",
        "CreateRelationsRelationsItem = TypedDict('CreateRelationsRelationsItem', {'from': 'str', 'to': 'str', ",
    ],
)
def test_a_nested_object_of_the_corpus_is_a_typed_dict(declaration: str) -> None:
    assert declaration in SOURCE


def test_no_default_is_sent_whether_the_schema_itself_takes_it_or_not(tmp_path: Path) -> None:
    AgentSkillsRenderer().render(CORPUS, tmp_path)
    code = CALL_ALL.partition("for name in")[0] + "drafts(2); chat_postMessage('c'); print(json.dumps(calls))"
    assert calls_of(tmp_path, code) == [
        ["drafts", {"three": 2}],
        ["chat_postMessage", {"channel": "c"}],
    ]


def test_a_description_of_a_megabyte_is_cut_everywhere(tmp_path: Path) -> None:
    huge = 'A "quoted" \\ word. ' * 55_000
    tools = [
        ToolSpec(name="huge", description=huge, input_schema={"properties": {"x": {"description": huge}}}),
        ToolSpec(
            name="long_default", input_schema={"properties": {"x": {"type": "string", "default": huge}}}
        ),
        ToolSpec(name="long_choice", input_schema={"properties": {"x": {"enum": [huge, "b"]}}}),
    ]
    AgentSkillsRenderer().render(tools, tmp_path, notes={"local": huge})
    sizes = {str(p.relative_to(tmp_path)): p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()}
    assert max(sizes.values()) < 60_000, sizes
    assert len(AgentSkillsRenderer().prompt(tools, tmp_path)) < 2_000
    check_tree(tmp_path, tools)


def test_references_that_multiply_do_not_multiply_the_text() -> None:
    """Each definition holds the next one several times: written out, it would be 8 ** 30 of the last."""
    definitions: dict[str, Any] = {
        f"d{n}": {
            "anyOf": [
                {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}},
                {"type": "object", "additionalProperties": {"$ref": f"#/$defs/d{n + 1}"}},
                *(
                    {"type": "object", "properties": {f"p{k}": {"$ref": f"#/$defs/d{n + 1}"}}}
                    for k in range(6)
                ),
            ]
        }
        for n in range(30)
    }
    definitions["d30"] = {"type": "string"}
    spec = ToolSpec(
        name="f", input_schema={"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
    )
    assert len(tools_module(bind([spec]))) < 200_000
