"""`AgentdSandboxEnvironment`: the sandbox environment `agentd` of Inspect (`inspect_ai.util.SandboxEnvironment`)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final, Literal, overload

from agentd.errors import ExecutorError
from agentd.types import PythonAction
from agentd_runner.host.command_sandbox import CommandSandbox, cannot_execute
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from pydantic import BaseModel, Field
from yaml import safe_load

__all__ = ["AgentdSandboxConfig", "AgentdSandboxEnvironment"]

PYTHON_TOOL: Final = ["bash", "--login", "-c", "python3 -"]
"""What `inspect_ai.tool.python` executes, with the code as its input."""


class AgentdSandboxConfig(BaseModel, frozen=True, extra="forbid"):
    """What a task says of its sandboxes: `sandbox=("agentd", AgentdSandboxConfig(...))`.

    :ivar executor: the plugin's name; None for what the user has chosen for the process, else `native`.
    :ivar options: the executor's own, by name. Here no time-out and no smaller output than Inspect's holds by default.
    :ivar lasting: whether what a command leaves running lives on until the sample ends, as in a container. Inspect's
        tools with a session of their own need it. Each such command is a job: `options` may bound them, else 64.
    :ivar python_blocks: whether what Inspect's tool `python` runs, and `python3 -c ...`, is a Python block of agentd's,
        forked from a warm interpreter (the executor's `python`), not a new one behind a login shell.
    """

    executor: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    lasting: bool = True
    python_blocks: bool = True

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # Inspect groups samples by their configuration

    @classmethod
    def read(cls, named: str) -> AgentdSandboxConfig:
        """Return what a string means: the YAML file with this path, or an executor's name (Inspect makes it a path).

        :raises pydantic.ValidationError: if the file has other keys or values.
        """
        path = Path(named)
        return cls.model_validate(safe_load(path.read_text())) if path.is_file() else cls(executor=path.name)


@sandboxenv(name="agentd")
class AgentdSandboxEnvironment(SandboxEnvironment):
    """One sample's sandbox: an executor of agentd over a temporary workspace, which goes with the sample."""

    def __init__(self, config: AgentdSandboxConfig | None = None) -> None:
        super().__init__()
        config = config or AgentdSandboxConfig()
        self._python_blocks = config.python_blocks
        # of a stream that is too long, Inspect keeps the end; an executor keeps head and tail, half of it each
        kept = 2 * SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        self.sandbox = CommandSandbox(
            config.executor,
            options=config.options,
            limits={"timeout_s": None, "output_bytes": kept, "jobs": 64},
            lasting=config.lasting,
            python_blocks=config.python_blocks,
        )
        self._lasting = config.lasting

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command in the workspace, or in `cwd` relative to it. It is run once, whatever `timeout_retry` says."""
        if user is not None:
            raise SandboxUserUnsupportedError(
                f"the sandbox 'agentd' has one user, so it cannot run a command as {user!r}; leave out user="
            )
        try:
            if self._python_blocks and cmd == PYTHON_TOOL and isinstance(input, str) and cwd is None:
                settings: dict[str, Any] = {"env": env, "timeout_s": timeout, "lasting": self._lasting}
                action = PythonAction(code=input, state="fresh", cwd=".", **settings)
                result = await self.sandbox.act(action)
            else:
                result = await self.sandbox.run(cmd, stdin=input or b"", cwd=cwd, env=env, timeout_s=timeout)
        except ExecutorError as error:
            raise SandboxUnavailableError(str(error)) from error
        if result.status == "timeout":
            raise TimeoutError(f"{cmd[0]} has not ended within {timeout} s")
        if cannot_execute(result):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), cmd[0])
        stdout, stderr = _kept(result.stdout), _kept(result.stderr)
        if result.message and result.exit_code:
            stderr += ("\n" if stderr and not stderr.endswith("\n") else "") + result.message
        return ExecResult(result.exit_code == 0, result.exit_code, stdout, stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file, with the folders that it is in."""
        data = contents.encode() if isinstance(contents, str) else contents
        await self.sandbox.write_file(file, data)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read a file whole."""
        try:
            data = await self.sandbox.read_file(file, most=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error
        return data.decode() if text else data

    def default_polling_interval(self) -> float:
        """As Inspect's own local sandbox has it: to ask costs milliseconds."""
        return 0.2

    @classmethod
    def default_concurrency(cls) -> int | None:
        """As many samples at once as Inspect's docker sandbox has: they share this machine."""
        return 2 * (os.cpu_count() or 1)

    @classmethod
    def config_files(cls) -> list[str]:
        """The file beside a task that says what `AgentdSandboxConfig` does."""
        return ["agentd-sandbox.yaml"]

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Read a configuration that a log or a sample has as data."""
        return AgentdSandboxConfig(**config)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Make the sample's sandbox and start it, so that what keeps it from running is an error of the sample.

        :raises TypeError: if `config` is neither an `AgentdSandboxConfig` nor an executor's name.
        """
        if isinstance(config, str):
            config = AgentdSandboxConfig.read(config)
        if config is not None and not isinstance(config, AgentdSandboxConfig):
            raise TypeError(
                "the sandbox 'agentd' is configured by an AgentdSandboxConfig or an executor's name, "
                f"got {type(config).__name__}"
            )
        environment = cls(config)
        try:
            await environment.sandbox.executor.start()
        except BaseException:
            await environment.sandbox.aclose()
            raise
        return {"default": environment}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """End what still runs, and remove the workspaces."""
        for environment in environments.values():
            await environment.as_type(cls).sandbox.aclose()


def _kept(stream: bytes) -> str:
    return stream[-SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE :].decode("utf-8", "replace")
