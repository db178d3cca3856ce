"""Sandbox sessions of the OpenAI Agents SDK on agentd's executors, and its runner.

The model answers from a list. The SDK has no suite of its own for them.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agentd_openai_agents import AgentdSandboxClient, AgentdSandboxClientOptions
from agents import Model, ModelResponse, RunConfig, Runner, Usage, set_tracing_disabled
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.capabilities import Filesystem, Shell
from agents.sandbox.entries import File
from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    PtySessionNotFoundError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
    WorkspaceStartError,
)
from agents.sandbox.manifest import Environment
from agents.sandbox.snapshot import LocalSnapshotSpec
from agents.sandbox.types import Group, User
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

pytestmark = pytest.mark.anyio

set_tracing_disabled(True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class ListedModel(Model):
    """Calls one tool after the other, then answers with what the last one said."""

    def __init__(self, calls: list[tuple[str, dict[str, Any]]]) -> None:
        self.calls = calls
        self.done = 0
        self.said: list[str] = []

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        self.said = [str(item["output"]) for item in input if isinstance(item, dict) and "output" in item]
        if self.done < len(self.calls):
            name, arguments = self.calls[self.done]
            self.done += 1
            item: Any = ResponseFunctionToolCall(
                type="function_call",
                call_id=f"call{self.done}",
                name=name,
                arguments=json.dumps(arguments),
            )
        else:
            text = ResponseOutputText(type="output_text", text=self.said[-1], annotations=[])
            item = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@pytest.fixture(params=["native", "subprocess"])
def client(request: pytest.FixtureRequest) -> AgentdSandboxClient:
    return AgentdSandboxClient(request.param)


async def test_their_runner_solves_a_task_in_the_sandbox(client: AgentdSandboxClient, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    model = ListedModel(
        [
            (
                "exec_command",
                {"cmd": "cat numbers.txt && echo 'print(sum(map(int, open(\"numbers.txt\"))))' > sum.py"},
            ),
            ("exec_command", {"cmd": "python3 sum.py | tee result.txt"}),
        ]
    )
    agent = SandboxAgent(name="builder", model=model, capabilities=[Shell(), Filesystem()])
    manifest = Manifest(root=str(root), entries={"numbers.txt": File(content=b"1\n2\n39\n")})
    config = RunConfig(sandbox=SandboxRunConfig(client=client, manifest=manifest))
    result = await Runner.run(agent, "Add them up.", run_config=config)
    assert "39" in model.said[0]
    assert "42" in result.final_output
    assert (root / "result.txt").read_text() == "42\n"


async def test_a_session_executes_reads_and_writes(client: AgentdSandboxClient) -> None:
    session = await client.create()
    async with session:
        assert await session.running()
        done = await session.exec("echo out; echo err >&2; exit 3")
        assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
        assert (await session.exec("printf", "%s", "a b", shell=False)).stdout == b"a b"
        root = session.state.manifest.root
        assert (await session.exec("pwd")).stdout.decode().strip() == root
        await session.write(Path("folder/data.bin"), io.BytesIO(b"\0\xff" * 1000))
        assert (await session.read(Path("folder/data.bin"))).read() == b"\0\xff" * 1000
        assert [entry.path for entry in await session.ls("folder")] == [f"{root}/folder/data.bin"]
        with pytest.raises(WorkspaceReadNotFoundError):
            await session.read(Path("nothing"))
        with pytest.raises(ExecTimeoutError):
            await session.exec("sleep 60", timeout=0.5)
        with pytest.raises(ValueError, match="one user"):
            await session.exec("true", user="root")
        left = await session.exec(
            "setsid sh -c 'while [ ! -e go ]; do sleep 0.05; done; echo x > came' > /dev/null 2>&1 &"
        )
        assert left.exit_code == 0
        await session.exec("touch go; while [ ! -e came ]; do sleep 0.05; done", timeout=30)
    assert not await session.running()
    assert Path(root).is_dir()
    await client.delete(session)
    assert not Path(root).exists()


async def test_a_workspace_is_persisted_and_hydrated(client: AgentdSandboxClient) -> None:
    first, second = await client.create(), await client.create()
    async with first, second:
        await first.exec(
            "mkdir -p a/b && echo hi > a/b/c && ln -s b/c a/link && mkfifo a/fifo && chmod 750 a/b/c"
        )
        archive = await first.persist_workspace()
        with tarfile.open(fileobj=archive) as tar:
            names = {name.removeprefix("./") for name in tar.getnames()}
        assert {"a", "a/b", "a/b/c", "a/link"} <= names
        assert not any(name.startswith(".agentd") or name == "a/fifo" for name in names)
        archive.seek(0)
        await second.hydrate_workspace(archive)
        assert (await second.exec("cat a/link; stat -c %a a/b/c")).stdout == b"hi\n750\n"
        outside = io.BytesIO()
        with tarfile.open(fileobj=outside, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("../outside"))
        outside.seek(0)
        with pytest.raises(WorkspaceArchiveWriteError):
            await second.hydrate_workspace(outside)
    await client.delete(first)
    await client.delete(second)


async def test_a_command_goes_on_while_others_run_and_shows_what_it_prints(
    client: AgentdSandboxClient,
) -> None:
    session = await client.create()
    async with session:
        assert session.supports_pty()
        waits = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo gone; exit 4"
        begun = await session.pty_exec_start(waits, yield_time_s=0.25)
        assert (begun.output, begun.exit_code) == (b"begun\n", None)
        assert begun.process_id is not None
        with pytest.raises(RuntimeError, match="stdin is not available"):
            await session.pty_write_stdin(session_id=begun.process_id, chars="x")
        assert (await session.exec("touch go")).exit_code == 0
        over = await session.pty_write_stdin(session_id=begun.process_id, chars="", yield_time_s=30)
        assert (over.output, over.exit_code, over.process_id) == (b"gone\n", 4, None)
        with pytest.raises(PtySessionNotFoundError):
            await session.pty_write_stdin(session_id=begun.process_id, chars="")
        for _ in range(2):
            short = await session.pty_exec_start("python3 -c 'print(1); x' 2>/dev/null", yield_time_s=30)
            assert (short.output, short.exit_code) == (b"1\n", 1)
        plain = await session.pty_exec_start("python3 -c 'print(2)'", yield_time_s=30)
        assert (plain.output, plain.exit_code) == (b"2\n", 0)
    await client.delete(session)


async def test_a_terminal_is_typed_into_until_its_program_ends(client: AgentdSandboxClient) -> None:
    session = await client.create()
    async with session:
        asks = "[ -t 0 ] && [ -t 1 ] && stty size && read -p 'name? ' x && echo hello $x && read y"
        asked = await session.pty_exec_start(asks, tty=True, yield_time_s=1)
        while b"name? " not in asked.output:
            asked = await session.pty_write_stdin(session_id=asked.process_id, chars="", yield_time_s=0.25)
        told = await session.pty_write_stdin(session_id=asked.process_id, chars="fox\n", yield_time_s=5)
        assert b"hello fox" in told.output
        assert told.exit_code is None
        ended = await session.pty_write_stdin(session_id=asked.process_id, chars="\x03", yield_time_s=30)
        assert (ended.exit_code, ended.process_id) == (130, None)
        much = await session.pty_exec_start(
            "stty raw -echo; head -c 300000 | wc -c", tty=True, yield_time_s=0.25
        )
        sent = await session.pty_write_stdin(session_id=much.process_id, chars="x" * 300_000, yield_time_s=30)
        assert (sent.output.strip(), sent.exit_code) == (b"300000", 0)
        nothing = await session.pty_exec_start("no-such-program", shell=False, tty=True, yield_time_s=30)
        assert (nothing.exit_code, b"No such file" in nothing.output) == (127, True)
    await client.delete(session)


async def test_what_goes_on_ends_with_the_session(client: AgentdSandboxClient, tmp_path: Path) -> None:
    session = await client.create(manifest=Manifest(root=str(tmp_path / "root")))
    async with session:
        for tty, ignored in ((True, "HUP"), (False, "TERM HUP")):  # the second takes longer to end
            line = f"trap '' {ignored}; echo $$ > pid{tty}; while :; do sleep 1; done"
            running = await session.pty_exec_start(line, tty=tty, yield_time_s=0.25)
            assert running.process_id is not None
        done = "while [ ! -s pidTrue ] || [ ! -s pidFalse ]; do sleep 0.02; done; kill -0 $(cat pidTrue pidFalse)"
        assert (await session.exec(done, timeout=30)).exit_code == 0
        client_sees = client._executor == "subprocess"
        pids = [int((tmp_path / "root" / f"pid{tty}").read_text()) for tty in (True, False)]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids) or not client_sees
        await session.pty_terminate_all()
        assert (await session.exec(f"kill -0 {pids[0]} || kill -0 {pids[1]}")).exit_code != 0
    await client.delete(session)


async def test_their_shell_tools_talk_to_a_terminal(client: AgentdSandboxClient) -> None:
    class Typing(ListedModel):
        async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
            for item in input:
                if isinstance(item, dict) and "session ID" in str(item.get("output")):
                    number = int(str(item["output"]).split("session ID ")[1].split()[0])
                    self.calls[1][1]["session_id"] = number
            return await super().get_response(system_instructions, input, *args, **kwargs)

    typed = {"session_id": 0, "chars": "print(6 * 7)\nexit()\n", "yield_time_ms": 20_000}
    model = Typing(
        [
            ("exec_command", {"cmd": "python3 -q", "tty": True, "yield_time_ms": 1500}),
            ("write_stdin", typed),
        ]
    )
    agent = SandboxAgent(name="typist", model=model, capabilities=[Shell()])
    result = await Runner.run(
        agent, "Calculate.", run_config=RunConfig(sandbox=SandboxRunConfig(client=client))
    )
    assert "42" in result.final_output
    assert "exited with code 0" in result.final_output


RESUME = """
import asyncio, json, sys
from agentd_openai_agents import AgentdSandboxClient

async def main():
    client = AgentdSandboxClient(sys.argv[1])
    session = await client.resume(client.deserialize_session_state(json.loads(sys.stdin.read())))
    async with session:
        print((await session.exec("cat notes.txt")).stdout.decode(), end="")
    await client.delete(session)

asyncio.run(main())
"""


@pytest.mark.parametrize("kept", ["folder", "snapshot"])
async def test_a_session_is_resumed_in_a_new_process(
    client: AgentdSandboxClient, kept: str, tmp_path: Path
) -> None:
    spec = LocalSnapshotSpec(base_path=tmp_path / "snapshots") if kept == "snapshot" else None
    session = await client.create(snapshot=spec)
    async with session:
        await session.write(Path("notes.txt"), io.BytesIO(b"kept\n"))
    state = client.serialize_session_state(session.state)
    if kept == "snapshot":
        await client.delete(session)
    done = subprocess.run(
        [sys.executable, "-c", RESUME, client._executor],
        input=json.dumps(state),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr
    assert not Path(session.state.manifest.root).exists()


ACCOUNT_PROGRAMS = ("useradd", "groupadd", "usermod")


def with_marks(root: Path, **accounts: Any) -> Manifest:
    """A manifest in whose commands the programs that make accounts only leave a mark in the workspace."""
    root.mkdir()
    for name in ACCOUNT_PROGRAMS:
        (root / name).write_text(f"#!/bin/sh\ntouch {root}/mark\n")
        (root / name).chmod(0o755)
    variables = Environment(value={"PATH": f"{root}:/usr/bin:/bin"})
    return Manifest(root=str(root), environment=variables, **accounts)


@pytest.mark.parametrize("wanted", ["run_as", "users", "groups"])
async def test_other_users_are_refused_before_anything_runs(
    client: AgentdSandboxClient, wanted: str, tmp_path: Path
) -> None:
    ada = User(name="ada")
    accounts = {"users": {"users": [ada]}, "groups": {"groups": [Group(name="crew", users=[ada])]}}
    manifest = with_marks(tmp_path / "root", **accounts.get(wanted, {}))
    agent = SandboxAgent(name="b", model=ListedModel([]), run_as="ada" if wanted == "run_as" else None)
    config = RunConfig(sandbox=SandboxRunConfig(client=client, manifest=manifest))
    with pytest.raises(ValueError, match=r"one user.*'ada'"):
        await Runner.run(agent, "Work.", run_config=config)
    session = await client.create(manifest=with_marks(tmp_path / "other"))
    state = session.state.model_copy(update={"manifest": manifest.model_copy(update={"users": [ada]})})
    with pytest.raises(ValueError, match="one user"):
        await client.resume(state)
    session._inner.state = state  # as one that was changed behind the client's back
    with pytest.raises(ValueError, match="one user"):
        await session.start()
    with pytest.raises(ValueError, match="one user"):
        await session.apply_manifest()
    with pytest.raises(ValueError, match="one user"):
        await session._inner.provision_manifest_accounts()
    await client.delete(session)
    assert not list(tmp_path.glob("*/mark"))


async def test_an_agent_of_another_user_is_refused_a_session_that_is_there(
    client: AgentdSandboxClient, tmp_path: Path
) -> None:
    session = await client.create(manifest=with_marks(tmp_path / "root"))
    config = RunConfig(sandbox=SandboxRunConfig(session=session))
    agent = SandboxAgent(name="b", model=ListedModel([]), run_as="ada")
    with pytest.raises(ValueError, match="one user"):
        await Runner.run(agent, "Work.", run_config=config)
    await client.delete(session)
    assert not list(tmp_path.glob("*/mark"))


async def test_a_session_that_was_not_entered_says_so(client: AgentdSandboxClient) -> None:
    session = await client.create()
    with pytest.raises(ExecTransportError, match="enter it: `async with session:`"):
        await session.exec("true")
    await client.delete(session)


async def test_ports_are_only_reachable_where_the_network_is_shared() -> None:
    for name in ("native", "subprocess"):
        client = AgentdSandboxClient(name)
        session = await client.create(options=AgentdSandboxClientOptions(exposed_ports=(8123,)))
        async with session:
            if name == "native":
                with pytest.raises(ExposedPortUnavailableError, match="'native' has a network of its own"):
                    await session.resolve_exposed_port(8123)
            else:
                assert (await session.resolve_exposed_port(8123)).port == 8123
        await client.delete(session)


async def test_without_a_word_about_it_code_is_in_a_sandbox_and_what_is_not_there_is_an_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "private").write_text("a key")
    client = AgentdSandboxClient()
    session = await client.create()
    async with session:
        assert (await session.exec(f"cat {tmp_path}/private")).exit_code == 1
    await client.delete(session)
    with pytest.raises(WorkspaceStartError, match="srtt"):
        async with await AgentdSandboxClient("srtt").create():
            pass
