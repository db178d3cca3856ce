"""Who may ask, and what each key may do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError
from agentd_cli.main import run_command_line
from agentd_serve.keys import read_keys
from fake_openai import Answer, FakeOpenAI
from served import Served

ASK: Any = [{"role": "user", "content": "How many?"}]
WRITE = "```note.txt:create\nhello\n```\n"
KEYS = """
keys:
  - name: ada
    sha256: "{ada}"
    policy: read-only
    models: [m1]
    max_requests: 1
  - name: bob
    env: BOBS_KEY
    max_cost_usd: 0.12
    budgets: {{max_turns: 2}}
"""


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOBS_KEY", "the key of bob, long enough")
    file = tmp_path / "keys.yaml"
    file.write_text(KEYS.format(ada=hashlib.sha256(b"the key of ada").hexdigest()))
    return file


PRICES = dict.fromkeys(("m1", "m2"), (0.1, 5000.0))  # each answer of the script costs 5 cents
ADA, BOB = "the key of ada", "the key of bob, long enough"


@pytest.mark.parametrize("key", ["", "the key of eve", "the key of ada ", "the key of adA", "\xfc"])
def test_a_wrong_key_is_refused_and_the_model_hears_nothing(keys: Path, tmp_path: Path, key: str) -> None:
    with (
        FakeOpenAI("x") as fake,
        Served(fake, tmp_path, ring=read_keys(keys, ["m1"]), prices=PRICES) as served,
    ):
        headers = {"Authorization": f"Bearer {key}x" if key.endswith(" ") else f"Bearer {key}"} if key else {}
        for path, method in (
            ("/v1/chat/completions", "POST"),
            ("/v1/responses", "POST"),
            ("/v1/models", "GET"),
            ("/agentd/sessions/x", "DELETE"),
        ):
            status, found, body = served.send(
                {"model": "m1", "messages": ASK}, path, method=method, **headers
            )
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert found["www-authenticate"] == "Bearer"
        with pytest.raises(openai.AuthenticationError):
            served.client("the key of nobody").chat.completions.create(model="m1", messages=ASK)
        assert served.send(b"", "/health", method="GET")[0] == 200
        assert fake.requests == []


def test_each_key_has_its_own_policy_models_and_sessions(keys: Path, tmp_path: Path) -> None:
    script = [WRITE, "ada's", WRITE, "bob's"]
    with (
        FakeOpenAI(*script) as fake,
        Served(
            fake, tmp_path, ring=read_keys(keys, ["m1", "m2"]), prices=PRICES, models=("m1", "m2")
        ) as served,
    ):
        ada, bob = served.client(ADA), served.client(BOB)
        assert [[m.id for m in client.models.list()] for client in (ada, bob)] == [["m1"], ["m1", "m2"]]
        with pytest.raises(openai.NotFoundError):
            ada.chat.completions.create(model="m2", messages=ASK)
        named = {"X-Agentd-Session": "same"}
        denied: Any = ada.chat.completions.create(model="m1", messages=ASK, extra_headers=named)
        allowed: Any = bob.chat.completions.create(model="m2", messages=ASK, extra_headers=named)
        assert denied.agentd["executions"][0]["status"] == "rejected"
        assert allowed.agentd["executions"][0]["status"] == "completed"
        assert not (tmp_path / "sessions" / "ada" / "same" / "note.txt").exists()
        assert (tmp_path / "sessions" / "bob" / "same" / "note.txt").exists()


def test_a_response_of_another_key_is_none(keys: Path, tmp_path: Path) -> None:
    with (
        FakeOpenAI("One.", "Two.") as fake,
        Served(fake, tmp_path, ring=read_keys(keys, ["m1"]), prices=PRICES) as served,
    ):
        first = served.client(ADA).responses.create(model="m1", input="a secret")
        with pytest.raises(openai.BadRequestError, match="there is no response"):
            served.client(BOB).responses.create(model="m1", input="b", previous_response_id=first.id)


def test_a_key_whose_money_is_used_up_is_refused_and_others_are_served(keys: Path, tmp_path: Path) -> None:
    with (
        FakeOpenAI("One.", repeat=True) as fake,
        Served(fake, tmp_path, ring=read_keys(keys, ["m1"]), prices=PRICES) as served,
    ):
        bob = served.client(BOB)
        for _ in range(3):
            bob.chat.completions.create(model="m1", messages=ASK)
        for ask in (
            lambda: bob.chat.completions.create(model="m1", messages=ASK),
            lambda: bob.responses.create(model="m1", input="x"),
        ):
            with pytest.raises(openai.RateLimitError) as caught:
                ask()
            assert caught.value.code == "insufficient_quota"
        served.client(ADA).chat.completions.create(model="m1", messages=ASK)
        assert len(fake.requests) == 4


def test_the_budgets_of_a_key_bound_each_of_its_runs(keys: Path, tmp_path: Path) -> None:
    again = "```bash:execute\ntrue\n```\n"
    with (
        FakeOpenAI(again, repeat=True) as fake,
        Served(fake, tmp_path, ring=read_keys(keys, ["m1"]), prices=PRICES) as served,
    ):
        answer: Any = served.client(BOB).chat.completions.create(model="m1", messages=ASK)
    assert (answer.agentd["stop_reason"], answer.choices[0].finish_reason) == ("max_turns", "length")
    assert len(fake.requests) == 2


def test_a_key_with_a_request_under_way_is_told_when_to_come_again(keys: Path, tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with (
        FakeOpenAI(slow, "Other.") as fake,
        Served(fake, tmp_path, ring=read_keys(keys, ["m1"]), prices=PRICES) as served,
    ):
        ada = served.client(ADA)
        stream = ada.chat.completions.create(model="m1", messages=ASK, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            ada.chat.completions.create(model="m1", messages=ASK)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert caught.value.code == "rate_limit_exceeded"
        served.client(BOB).chat.completions.create(model="m1", messages=ASK)
        slow.gate.set()
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "stop"


def test_the_command_tells_each_fault_of_a_file_of_keys_on_a_line_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n  - {name: a b}\nmore: 1\n")
    assert run_command_line(["serve", "--model", "m1", "--keys", str(file)]) == 2
    first, *others = capfd.readouterr().err.splitlines()
    assert first.startswith(f"agentd: error: {file}:2:")
    assert len(others) == 2
    assert all(line.startswith(f"  {file}:") for line in others)


def test_a_file_of_keys_tells_all_that_is_wrong_with_its_places(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    known = hashlib.sha256(b"a key").hexdigest()
    file.write_text(
        "keys:\n"
        "  - name: a b\n"
        "    sha256: the-key-itself\n"
        f"  - {{name: ada, sha256: {known!r}, polcy: yolo, models: [m9], max_cost_usd: -1}}\n"
        f"  - {{name: Ada, sha256: {known!r}, env: HOME, max_requests: 1.5}}\n"
        f"  - {{name: eve, sha256: {known!r}, policy: yoloo}}\n"
        "  - {name: mal, env: NO_SUCH_VARIABLE_HERE, budgets: {max_turns: 0, max_turn: 1}}\n"
        "more: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_keys(file, ["m1"])
    lines = str(caught.value).splitlines()
    places = [line.removeprefix(f"{file}:").split(": ")[0] for line in lines]
    assert places == [
        *("2:5", "3:5", "4:93", "4:115", "4:120", "5:5", "5:6", "5:104"),
        *("6:17", "6:93", "7:17", "7:55", "7:69", "8:1"),
    ]
    told = "\n".join(lines)
    assert "the-key-itself" not in told
    assert "keys[1].polcy: unknown key 'polcy'" in told
    assert "did you mean 'policy'" in told
    assert "keys[3].sha256: another entry has the same key" in told
    assert "keys[4].env: the environment variable NO_SUCH_VARIABLE_HERE is not set" in told


def test_a_money_budget_over_a_model_without_a_price_is_refused_at_the_start(
    keys: Path, tmp_path: Path
) -> None:
    ring = read_keys(keys, ["m1"])
    with (
        FakeOpenAI("x") as fake,
        pytest.raises(ConfigError, match="max_cost_usd of the key 'bob': no price of 'm1'"),
        Served(fake, tmp_path, ring=ring),
    ):
        pass


@pytest.mark.parametrize("text", ["", "keys: []", "[]", "keys: {a: b}", "keys: [1]", "keys: [{}]", "a: ["])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        read_keys(tmp_path / "keys.yaml", ["m1"])
