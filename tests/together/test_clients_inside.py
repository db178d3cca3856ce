"""Clients that code makes inside a sandbox: the proxy's variables there do not stop them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import native
import pytest
import sandbox

MAKE = """
import json, os
import httpx, openai
with httpx.Client() as plain, openai.OpenAI(api_key="none") as client:
    made = [type(plain).__name__, type(client).__name__]
print(json.dumps([made, sorted(n for n in os.environ if n.lower().endswith("_proxy"))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("make", [sandbox.make, native.make], ids=["srt", "native"])
@pytest.mark.parametrize("hosts", [[], ["example.com"]], ids=["no host", "a host"])
def test_clients_of_httpx_and_openai_can_be_made(
    make: Callable[..., Any], hosts: list[str], tmp_path: Path
) -> None:
    allowed = {"allowed_domains" if make is sandbox.make else "allowed_hosts": hosts}
    with make(tmp_path / "workspace", timeout=60, **allowed) as executor:
        output, exit_code = executor.execute_python(MAKE)
    assert exit_code == 0, output
    made, proxies = json.loads(output)
    assert made == ["Client", "OpenAI"]
    if hosts:
        assert any(name.lower() == "https_proxy" for name in proxies)
