"""What stands between two APIs: arguments carried over."""

from __future__ import annotations

from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_serve.other_api import carried


@pytest.mark.parametrize(
    ("to", "given", "wanted"),
    [
        ("responses", {"max_tokens": 3, "temperature": 0}, {"max_output_tokens": 3, "temperature": 0}),
        ("responses", {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ("responses", {"verbosity": "high"}, {"text": {"verbosity": "high"}}),
        ("chat", {"max_output_tokens": 3}, {"max_tokens": 3}),
        ("chat", {"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ("chat", {"text": {"format": {"type": "text"}, "verbosity": "low"}, "store": True}, {"verbosity": "low"}),
        ("chat", {"extra_body": {"top_k": 3}, "instructions": "x"}, {"extra_body": {"top_k": 3}}),
    ],
)  # fmt: skip
def test_arguments_are_carried_to_the_other_api(to: Any, given: Any, wanted: Any) -> None:
    assert carried(given, to) == wanted


@pytest.mark.parametrize(("to", "name"), [("responses", "stop"), ("responses", "seed"), ("chat", "prompt")])
def test_an_argument_that_the_other_api_does_not_have_is_refused(to: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: is not carried"):
        carried({name: "x"}, to)
