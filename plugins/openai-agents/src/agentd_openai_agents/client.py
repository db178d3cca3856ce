"""`AgentdSandboxClient`: the sandbox client `agentd` of the OpenAI Agents SDK."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
from agentd_runner.inside.files import remove_tree
from agents.sandbox.manifest import Manifest
from agents.sandbox.session import SandboxSession, SandboxSessionState
from agents.sandbox.session.manager import Instrumentation
from agents.sandbox.session.sandbox_client import BaseSandboxClient, BaseSandboxClientOptions
from agents.sandbox.snapshot import SnapshotBase, SnapshotSpec, resolve_snapshot

from agentd_openai_agents.session import (
    AgentdSandboxSession,
    AgentdSandboxSessionState,
    refuse_accounts,
)

__all__ = ["AgentdSandboxClient", "AgentdSandboxClientOptions"]


class AgentdSandboxClientOptions(BaseSandboxClientOptions):
    """What a run may say of its sandbox. Where code runs is the client's to say alone."""

    type: Literal["agentd"] = "agentd"
    exposed_ports: tuple[int, ...] = ()


class AgentdSandboxClient(BaseSandboxClient[AgentdSandboxClientOptions | None]):
    """Makes sandbox sessions for `SandboxRunConfig(client=...)`.

    A session's files are in the folder `root` of its manifest; without a word about it, in a temporary one, which
    `delete` removes. A session is resumed from its state by any process that reaches the folder, or from its snapshot.

    :param executor: a name, or a pair of name and options; None for what the user has chosen for the process, else
        `native`. It is no part of a session's state, so that nothing a run writes can change it.
    :param options: of the executor, by name. Without a word about them, commands have no time-out of their own.
    :param lasting: whether what a command leaves running lives on until its session is shut down. It is a job:
        `options` may bound their number, else 64.
    :param python_blocks: whether a command that does nothing but start `python3` on a text (`python3 -c '...'`) is run
        as a Python block, forked from a warm interpreter.
    """

    backend_id = "agentd"
    supports_default_options = True

    def __init__(
        self,
        executor: object = None,
        *,
        options: Mapping[str, Any] | None = None,
        lasting: bool = True,
        python_blocks: bool = True,
        instrumentation: Instrumentation | None = None,
        dependencies: Any = None,
    ) -> None:
        self._executor = executor
        self._how = {"lasting": lasting, "python_blocks": python_blocks}
        self._options = dict(options or {})
        self._instrumentation = instrumentation or Instrumentation()
        self._dependencies = dependencies

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: AgentdSandboxClientOptions | None = None,
    ) -> SandboxSession:
        """Make a session. Its sandbox starts with it.

        :raises ValueError: if the manifest wants users or groups, or an agent `run_as`, which comes to the same.
        """
        manifest = Manifest() if manifest is None else manifest
        refuse_accounts(manifest)
        owned = manifest.root == Manifest.model_fields["root"].default
        if owned:
            root = str(Path(tempfile.mkdtemp(prefix="agentd-sandbox-")).resolve())
            manifest = manifest.model_copy(update={"root": root}, deep=True)
        self._validate_manifest_for_create(manifest)
        session_id = uuid.uuid4()
        return self._session(
            AgentdSandboxSessionState(
                session_id=session_id,
                manifest=manifest,
                snapshot=resolve_snapshot(snapshot, str(session_id)),
                workspace_root_owned=owned,
                exposed_ports=(options or AgentdSandboxClientOptions()).exposed_ports,
            )
        )

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Go on with a session: with the files of its folder if that is there, else with those of its snapshot.

        :raises TypeError: if the state is another client's.
        :raises ValueError: if its manifest wants users or groups.
        """
        if not isinstance(state, AgentdSandboxSessionState):
            raise TypeError(f"state: must be one of AgentdSandboxClient's, got {type(state).__name__}")
        refuse_accounts(state.manifest)
        state.assert_path_grants_rebound()
        return self._session(state)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """End what runs, and remove a temporary folder.

        :raises TypeError: if the session is another client's.
        """
        inner = session._inner
        if not isinstance(inner, AgentdSandboxSession):
            raise TypeError(f"session: must be one of AgentdSandboxClient's, got {type(inner).__name__}")
        await inner._shutdown_backend()
        if inner.state.workspace_root_owned:
            root = inner.state.manifest.root
            await anyio.to_thread.run_sync(remove_tree, root)
        return session

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        """Read the state of a session that was written as data."""
        return self._deserialize_session_state_payload(payload, AgentdSandboxSessionState)

    def _session(self, state: AgentdSandboxSessionState) -> SandboxSession:
        inner = AgentdSandboxSession(state=state, executor=self._executor, options=self._options, **self._how)
        if state.workspace_root_ready and Path(state.manifest.root).is_dir():
            inner._set_start_state_preserved(True)
        return self._wrap_session(inner, instrumentation=self._instrumentation)
