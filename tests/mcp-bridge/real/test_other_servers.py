"""The filesystem, memory, time and git servers, each doing its work for a Python block."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_servers import npm_server

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough here: connections live on a loop of their own."""
    return "asyncio"


async def test_the_filesystem_server_reads_and_writes_the_workspace(
    working: Callable[..., Any], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "in.txt").write_text("first line\nsecond line\n")
    command, *args = npm_server("server-filesystem")
    async with working({"name": "files", "command": command, "args": [*args, str(workspace)]}) as world:
        printed = await world.python(
            """
            import os
            from lib.tools import ToolError, edit_file, list_directory, read_text_file, write_file
            here = os.getcwd()
            def text(result):
                return result["content"] if isinstance(result, dict) else result
            assert "second line" in text(read_text_file(path=f"{here}/in.txt"))
            write_file(path=f"{here}/out.txt", content="écrit par le serveur")
            edit_file(path=f"{here}/out.txt", edits=[{"oldText": "serveur", "newText": "modèle"}])
            assert "in.txt" in text(list_directory(path=here))
            try:
                read_text_file(path="/etc/passwd")
            except ToolError as error:
                print("refused:", "outside" in str(error))
            """
        )
    assert printed == "refused: True\n"
    assert (workspace / "out.txt").read_text() == "écrit par le modèle"


async def test_the_memory_server_keeps_a_graph_between_blocks(
    working: Callable[..., Any], tmp_path: Path
) -> None:
    command, *args = npm_server("server-memory")
    file = tmp_path / "memory.jsonl"
    server = {"name": "memory", "command": command, "args": args, "env": {"MEMORY_FILE_PATH": str(file)}}
    async with working(server) as world:
        await world.python(
            """
            from lib.tools import create_entities, create_relations
            create_entities(entities=[
                {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]},
                {"name": "Analytical Engine", "entityType": "machine", "observations": []},
            ])
            create_relations(relations=[{"from": "Ada", "to": "Analytical Engine", "relationType": "programs"}])
            """
        )
        printed = await world.python(
            """
            import json
            from lib.tools import open_nodes, search_nodes
            print(json.dumps([search_nodes(query="program"), open_nodes(names=["Ada", "Analytical Engine"])]))
            """
        )
    found, graph = json.loads(printed)
    assert [entity["name"] for entity in found["entities"]] == ["Ada"]
    assert graph["relations"][0]["relationType"] == "programs"
    assert "wrote the first program" in file.read_text()


async def test_the_time_server_converts_times(
    working: Callable[..., Any], python_server: Callable[..., dict[str, Any]]
) -> None:
    async with working(python_server("mcp_server_time", "--local-timezone", "Europe/Paris")) as world:
        printed = await world.python(
            """
            import json
            from lib.tools import ToolError, convert_time, get_current_time
            def value(result):
                return json.loads(result) if isinstance(result, str) else result
            assert value(get_current_time(timezone="Asia/Tokyo"))["timezone"] == "Asia/Tokyo"
            converted = value(convert_time(source_timezone="UTC", time="12:00", target_timezone="Asia/Kolkata"))
            assert "17:30" in converted["target"]["datetime"], converted
            try:
                get_current_time(timezone="Mars/Olympus")
            except ToolError as error:
                print("refused:", "Mars/Olympus" in str(error))
            """
        )
    assert printed == "refused: True\n"


async def test_the_git_server_works_on_a_repository(
    working: Callable[..., Any], python_server: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", str(repository))
    _git(repository, "config", "user.name", "Test")  # the server commits as whoever the repository says
    _git(repository, "config", "user.email", "test@example.org")
    (repository / "a.txt").write_text("one\n")
    _git(repository, "add", "a.txt")
    _git(repository, "commit", "--quiet", "--message", "First")
    (repository / "a.txt").write_text("two\n")
    async with working(python_server("mcp_server_git", "--repository", str(repository))) as world:
        printed = await world.python(
            f"""
            from lib.tools import git_add, git_commit, git_diff_unstaged, git_log, git_status
            repository = {str(repository)!r}
            assert "a.txt" in str(git_status(repo_path=repository))
            assert "+two" in str(git_diff_unstaged(repo_path=repository))
            git_add(repo_path=repository, files=["a.txt"])
            git_commit(repo_path=repository, message="Second")
            print(git_log(repo_path=repository, max_count=2))
            """
        )
    assert "First" in printed
    assert _git(repository, "log", "-1", "--format=%s") == "Second\n"


def _git(where: Path, *arguments: str) -> str:
    """Run git and return what it printed."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=True).stdout
