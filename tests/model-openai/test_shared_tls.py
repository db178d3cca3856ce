"""What a model's own client is made with: one TLS context for all, and otherwise what the SDK gives a client itself."""

from __future__ import annotations

import gc
import ssl
import weakref
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd_model_openai import quick_chat
from agentd_model_openai.owned import LazyClient
from agentd_model_openai.tls import http_settings


def contexts_of(root: Any) -> set[int]:
    """The TLS contexts that an object leads to, a few steps away."""
    found, seen, ring = set(), {id(root)}, [root]
    for _ in range(6):
        ring = [o for o in gc.get_referents(*ring) if id(o) not in seen and not isinstance(o, type)]
        seen |= set(map(id, ring))
        found |= {id(o) for o in ring if isinstance(o, ssl.SSLContext)}
    return found


def made(**settings: Any) -> Any:
    return LazyClient("chat", base_url="https://127.0.0.1:9/v1", api_key="none")._make(**settings)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_clients_share_one_tls_context_and_another_certificate_file_gives_another(
    is_async: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = made(is_async=is_async), made(is_async=not is_async)
    assert contexts_of(first._client) == contexts_of(second._client)
    assert len(contexts_of(first._client)) == 1
    paths = ssl.get_default_verify_paths()
    bundle = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else ""
    if not bundle:
        bundle = next((str(p) for p in Path("/etc/ssl/certs").glob("*.crt")), "")
    if not bundle:
        pytest.skip("no file of certificates on this machine: install ca-certificates")
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    assert not contexts_of(made(is_async=is_async)._client) & contexts_of(first._client)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_client_has_the_time_outs_and_redirects_that_the_sdk_gives_its_own(is_async: bool) -> None:
    cls: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    own, plain = made(is_async=is_async), cls(base_url="https://127.0.0.1:9/v1", api_key="none")
    assert own.timeout == plain.timeout
    assert own._client.timeout == plain._client.timeout
    assert own._client.follow_redirects == plain._client.follow_redirects
    assert own._client.trust_env == plain._client.trust_env
    assert str(own.base_url) == str(plain.base_url)


def test_a_client_with_the_shared_context_still_goes_past_the_sdk() -> None:
    client = made(is_async=True)
    assert quick_chat._state(client, client.chat.completions) is not None


def test_the_shared_context_wants_a_certificate_and_its_name() -> None:
    client = http_settings(openai, is_async=False)["http_client"]
    wanted = contexts_of(client)
    (found,) = [o for o in gc.get_objects() if isinstance(o, ssl.SSLContext) and id(o) in wanted]
    assert found.verify_mode == ssl.CERT_REQUIRED
    assert found.check_hostname


@pytest.mark.anyio
async def test_a_client_that_is_closed_and_forgotten_leaves_no_context_of_its_own() -> None:
    lazy = LazyClient("chat", base_url="http://127.0.0.1:9/v1", api_key="none")
    await lazy.open()
    assert lazy._client is not None
    gone = weakref.ref(lazy._client._client)
    before = contexts_of(lazy._client._client)
    await lazy.aclose()
    assert lazy._client is None
    gc.collect()
    assert gone() is None
    await lazy.open()
    assert contexts_of(lazy._client._client) == before
    await lazy.aclose()
