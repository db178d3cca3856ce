"""Results that are too long for the model: all of them lies in a file that code can read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agentd.session.session import Session
from agentd.types import Budgets
from native import need_native
from script_model import ScriptModel

pytestmark = pytest.mark.anyio
LONG = "```bash:execute\nseq 1 30000\n```\n"
SHORT = Budgets(max_result_chars=2_000)


def in_file(text: str) -> str:
    (found,) = re.findall(
        r"characters were cut here; all of it is in (\.agentd/results/\d+\.txt) \.\.\.]", text
    )
    return str(found)


@pytest.mark.parametrize("executor", ["subprocess", "native"])
async def test_code_reads_what_the_model_was_not_shown(executor: str, tmp_path: Path) -> None:
    if executor == "native":
        need_native()
    model = ScriptModel(LONG, "Ok.")
    async with Session(model, cwd=tmp_path, executor=executor, budgets=SHORT) as session:
        await session.ask("go")
        file = in_file(model.results[0])
        model.answers += [f"```bash:execute\nsed -n 15000p {file}; wc -l < {file}\n```\n", "Done."]
        await session.ask("on")
    assert len(model.results[0]) < 3_000
    assert model.results[0].startswith("[result 1 of 1: bash:execute, completed, exit code 0]\n1\n2\n")
    assert "15000\n30000\n" in model.results[1]


async def test_each_of_many_results_has_a_file_of_its_own_and_short_ones_have_none(tmp_path: Path) -> None:
    model = ScriptModel(f"{LONG}\n{LONG}\n```bash:execute\necho short\n```\n", "Ok.")
    async with Session(model, cwd=tmp_path, executor="subprocess", budgets=SHORT) as session:
        await session.ask("go")
    files = re.findall(r"all of it is in (\S+\.txt)", model.results[0])
    assert len(set(files)) == 2
    assert sorted(p.name for p in (tmp_path / ".agentd/results").iterdir()) == sorted(
        Path(f).name for f in files
    )
    assert all((tmp_path / file).read_text().splitlines()[-1] == "30000" for file in files)


async def test_where_no_file_can_be_written_the_result_is_cut_as_before(tmp_path: Path) -> None:
    (tmp_path / ".agentd").mkdir()
    (tmp_path / ".agentd/results").write_text("in the way")
    model = ScriptModel(LONG, "Ok.")
    async with Session(model, cwd=tmp_path, executor="subprocess", budgets=SHORT) as session:
        end = await session.ask("go")
    assert end.text == "Ok."
    assert "characters were cut here; write long output to a file" in model.results[0]
