"""What a model costs: the caller's price, then LiteLLM's table, then ours."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.types import Usage
from agentd_model_openai import prices
from agentd_model_openai.prices import TABLE, Price, find_price
from agentd_model_openai.usage import estimated_tokens

ENTRY = {
    "litellm_provider": "openai",
    "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06,
    "cache_read_input_token_cost": 5e-07,
}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """LiteLLM's table of a program that has imported it; with no file behind it."""
    entries: dict[str, Any] = {}
    module = type(sys)("litellm")
    module.model_cost = entries  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.setattr(prices, "_entry_in_file", lambda name: None)
    return entries


def test_what_the_caller_says_comes_first_and_zero_is_a_price(table: dict[str, Any]) -> None:
    table["gpt-5"] = ENTRY
    assert find_price("gpt-5", {"gpt-5": (1, 2)}) == Price(1, 2, 1)
    assert find_price("gpt-5", {"gpt-5": [1, 2, 0.5]}) == Price(1, 2, 0.5)  # type: ignore[dict-item]
    free = find_price("gpt-5", {"gpt-5": (0, 0)})
    assert free is not None
    assert free.of(Usage(input_tokens=1000, output_tokens=1000)) == 0.0


def test_then_comes_the_table_of_litellm_and_then_ours(table: dict[str, Any]) -> None:
    assert find_price("gpt-5") == Price(*TABLE["gpt-5"])
    table["gpt-5"] = ENTRY
    assert find_price("gpt-5") == Price(2.0, 8.0, 0.5)


def test_a_provider_s_prefix_finds_that_provider_s_entry_alone(table: dict[str, Any]) -> None:
    table["big"] = {**ENTRY, "litellm_provider": "anthropic"}
    assert find_price("anthropic/big") == Price(2.0, 8.0, 0.5)
    assert find_price("ollama/big") is None
    table["ollama/big"] = {**ENTRY, "litellm_provider": "ollama", "input_cost_per_token": 0.0}
    assert find_price("ollama/big") == Price(0.0, 8.0, 0.5)


def test_long_requests_have_a_price_of_their_own(table: dict[str, Any]) -> None:
    table["long"] = {
        **ENTRY,
        "input_cost_per_token_above_200k_tokens": 4e-06,
        "output_cost_per_token_above_200k_tokens": 16e-06,
    }
    price = find_price("long")
    assert price is not None
    assert price.of(Usage(input_tokens=200_000, output_tokens=10)) == pytest.approx(0.4 + 10 * 8e-6)
    assert price.of(Usage(input_tokens=200_001, output_tokens=10)) == pytest.approx(
        200_001 * 4e-6 + 10 * 16e-6
    )


@pytest.mark.parametrize(
    "entry",
    [{}, 5, {"input_cost_per_token": "dear", "output_cost_per_token": 1e-6}, {"input_cost_per_token": 1e-6}],
)
def test_an_entry_without_both_prices_is_none(entry: Any, table: dict[str, Any]) -> None:
    table["odd"] = entry
    assert find_price("odd") is None


@pytest.mark.parametrize(
    "price", [5, (1,), (1, 2, 3, 4), ("1", 2), (-1, 2), (1, float("nan")), (True, 1), None]
)
def test_a_price_that_is_none_is_refused_with_the_forms_that_there_are(price: Any) -> None:
    with pytest.raises(ConfigError, match=r"prices\['m'\]: must be \(input, output\) or .*; got "):
        find_price("m", {"m": price})


def test_an_unknown_price_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agentd.models"):
        assert find_price("nobody-s-model") is None
        assert find_price("nobody-s-model") is None
    assert [r.message for r in caplog.records] == [
        "no price is known for the model 'nobody-s-model', so its cost stays unknown; `prices` may say it"
    ]


def test_the_table_of_an_installed_litellm_is_read_without_importing_it() -> None:
    pytest.importorskip("litellm", reason="pip install agentd-model-litellm")
    code = (
        "import sys; from agentd_model_openai.prices import find_price\n"
        "print(find_price('gpt-4.1-mini'), find_price('anthropic/claude-haiku-4-5'), 'litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "Price(input=0.4, output=1.6, cached=0.1, above=None) "
        "Price(input=1.0, output=5.0, cached=0.1, above=None) False"
    )


def test_our_table_says_what_an_installed_litellm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("litellm", reason="pip install agentd-model-litellm")
    monkeypatch.delitem(sys.modules, "litellm")
    assert {name: find_price(name) for name in TABLE} == {
        name: Price(*price) for name, price in TABLE.items()
    }


def test_the_estimate_counts_a_picture_as_a_picture_and_not_its_letters() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
    assert estimated_tokens([{"role": "user", "content": [picture]}]) < 2_000
    assert estimated_tokens([{"role": "user", "content": "x" * 4_000}]) == pytest.approx(1_000, abs=10)
