"""Which tests of LangChain's suite cannot pass, and why."""

from __future__ import annotations

import pytest

GLOB = "BaseSandbox of deepagents 0.7 returns absolute paths of files; the suite wants relative ones, and directories"
WRITE = "BaseSandbox of deepagents 0.7 writes over a file that is there; the suite wants an error"
LEFT_OUT = {
    "test_glob": GLOB,
    "test_glob_basic_pattern": GLOB,
    "test_glob_with_directories": GLOB,
    "test_glob_hidden_files_explicitly": GLOB,
    "test_glob_with_character_class": GLOB,
    "test_glob_with_question_mark": GLOB,
    "test_write_existing_file_fails": WRITE,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name in LEFT_OUT:
            item.add_marker(pytest.mark.xfail(reason=LEFT_OUT[item.name], strict=True))
