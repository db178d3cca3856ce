"""One registry settles workspaces for all executors of a program."""

from __future__ import annotations

import os

import pytest
from agentd_runner.host import settling


def test_it_is_made_once_for_each_choice_of_plugins_and_anew_in_a_forked_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settling._registry.cache_clear()
    monkeypatch.delenv("AGENTD_PLUGINS_BLOCK", raising=False)
    first = settling._current()
    assert settling._current() is first
    monkeypatch.setenv("AGENTD_PLUGINS_BLOCK", "packs")
    assert settling._current() is not first
    monkeypatch.delenv("AGENTD_PLUGINS_BLOCK")
    assert settling._current() is first
    child = os.fork()
    if child == 0:
        os._exit(int(settling._registry.cache_info().currsize))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
