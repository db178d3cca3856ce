"""The values that pass between the parts: blocks, actions, output and results. All are frozen."""

from __future__ import annotations

import codecs
from typing import Final, Literal

import attrs

from agentd.errors import ConfigError

__all__ = [
    "LANGUAGES", "Action", "ActionResult", "ActionStatus", "BashAction", "Binding", "Blob", "Block",
    "Budgets", "CreateAction", "Limits", "OutputChunk", "OutputStream", "PythonAction", "PythonState",
    "Segment", "SegmentKind", "StopReason", "ToolSpec", "Usage",
]  # fmt: skip

OutputStream = Literal["stdout", "stderr"]
PythonState = Literal["fresh", "kept"]
ActionStatus = Literal["completed", "failed", "timeout", "cancelled", "rejected"]
SegmentKind = Literal["prose", "opaque", "block", "reasoning"]
StopReason = Literal[
    "answer", "refused", "cut", "provider_error", "max_turns", "wall_time", "tokens", "cost", "tool_calls",
    "rejected_blocks", "cancelled", "error",
]  # fmt: skip


# --- what a parser finds in the model's answer -------------------------------------------------


LANGUAGES: Final = {
    **dict.fromkeys(("bash", "sh", "shell"), "bash"),
    **dict.fromkeys(("python", "py", "python3"), "python"),
}
"""Canonical language by the (lower-case) name that a model writes."""


@attrs.frozen
class Block:
    """One block of code in a model's answer.

    `target` is the part of the header before the last colon (a language or a path), `action` the part behind it in
    lower case (`execute`, `create`, or whatever the model wrote). `language` is the canonical language of an
    `execute` block: `bash`, `python`, or the target as written if it is neither. `source` is the body. `complete` is
    False when the text ended before the block did: such a block is never run. `reason` says why it is not run
    otherwise, in words that the model reads; its segment may be empty, at the end of the answer.
    """

    target: str
    action: str
    source: str
    language: str = ""
    complete: bool = True
    reason: str = ""

    @classmethod
    def of(cls, target: str, action: str, source: str, *, complete: bool = True, reason: str = "") -> Block:
        """Return the block of a header that `agentd.notation.read_header` took apart; `language` becomes canonical."""
        language = LANGUAGES.get(target.lower(), target)
        return cls(target, action.lower(), source, language, complete, reason)


@attrs.frozen
class Segment:
    """A piece of the model's answer, `text == answer[start:end]` (in characters).

    Segments come in order and without gaps. `prose` is shown to the person; `opaque` is shown too, but
    no other parser may find a block in it (an example fence, say); `reasoning` likewise is what the model thinks, and
    the tags around it; `block` carries a `Block`.
    """

    kind: SegmentKind
    text: str
    start: int
    end: int
    block: Block | None = None


# --- what an executor runs ---------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class BashAction:
    """Bash source, run by a fresh bash that starts from the state the last one left; `fresh`: apart from the others.

    `cwd` overrides the session's current directory; `timeout_s` the executor's default; `env` adds variables for this
    action only; `limits` lowers some of `Limits`, by name; `stdin` is its standard input. `job` names a job that it
    starts (made up if empty): it outlives the block (`JobExecutor`). `lasting`: so does what it leaves running.
    """

    command: str
    job: str | None = None
    cwd: str | None = None
    timeout_s: float | None = None
    env: dict[str, str] | None = None
    limits: dict[str, int] | None = None
    stdin: str | bytes = b""
    state: PythonState = "kept"
    lasting: bool = False


@attrs.frozen(kw_only=True)
class PythonAction:
    """Python source, run as a fresh `__main__`, or (`state="kept"`) in one namespace that lasts.

    `state=None` leaves the choice to the executor's own `state` option.
    """

    code: str
    state: PythonState | None = None
    cwd: str | None = None
    timeout_s: float | None = None
    env: dict[str, str] | None = None
    pythonpath: tuple[str, ...] = ()
    limits: dict[str, int] | None = None
    stdin: str | bytes = b""
    lasting: bool = False


@attrs.frozen(kw_only=True)
class CreateAction:
    """Write `content` to `path`, relative to the session's current directory, inside the workspace."""

    path: str
    content: str | bytes
    cwd: str | None = None


Action = BashAction | PythonAction | CreateAction


@attrs.frozen
class OutputChunk:
    """Bytes that an action wrote to one of its streams, as they came."""

    stream: OutputStream
    data: bytes


@attrs.frozen(kw_only=True)
class ActionResult:
    """How an action ended and what it printed.

    `status`: `completed` (exit code 0), `failed` (any other end of its own), `timeout`, `cancelled`, `rejected` (by a
    policy). `exit_code` is 128 + N for death by signal N, as bash has it; 137 for a watched limit, too. `chunks` are
    the kept output in the order of arrival; where a stream was longer than its limit, its head and tail are kept and
    `dropped_bytes` counts the middle. Times in seconds, memory in bytes. `message` says in a sentence
    what the exit code cannot: the time-out, the limit, the created file, the reason of a refused path.
    """

    status: ActionStatus
    exit_code: int
    chunks: tuple[OutputChunk, ...] = ()
    dropped_bytes: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    message: str = ""

    @property
    def stdout(self) -> bytes:
        """What was kept of standard output."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == "stdout")

    @property
    def stderr(self) -> bytes:
        """What was kept of standard error."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == "stderr")

    @property
    def output(self) -> str:
        """Both streams in the order of arrival, decoded as UTF-8 (bad bytes replaced), then `message`."""
        if len({chunk.stream for chunk in self.chunks}) < 2:
            text = b"".join(chunk.data for chunk in self.chunks).decode("utf-8", "replace")
        else:
            text = self._interleaved()
        return text + ("\n" if self.message and text and not text.endswith("\n") else "") + self.message

    def _interleaved(self) -> str:
        decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        parts = [decoders[c.stream].decode(c.data) for c in self.chunks]  # a character may be in two
        return "".join([*parts, *(decoder.decode(b"", True) for decoder in decoders.values())])


@attrs.frozen(kw_only=True)
class Limits:
    """What an action may use. Every limit has a default; None lifts one where the type allows it.

    `cpu_s`, `memory_mib`, `file_mib` and `open_files` are the operating system's (setrlimit): they hold for
    each process of the action by itself, and at once. The others are watched by the runner, at most
    four times a second, so what happens between two looks is not held up.

    :ivar timeout_s: seconds that an action may take.
    :ivar grace_s: seconds between TERM and KILL for an action that is ended.
    :ivar output_bytes: what is kept of each output stream.
    :ivar cpu_s: CPU seconds of a process.
    :ivar memory_mib: data of a process (its own memory, not its address space).
    :ivar file_mib: size of a file.
    :ivar open_files: open files of a process.
    :ivar processes: processes and threads of the action. Besides, no more than this number are started by
        the user on top of what the machine had when the runner started; that is setrlimit's, and does not bind root.
    :ivar workspace_mib: what a session may add to the workspace and its own folder for temporary files, on
        the disk. Where the disk of the workspace is nearly full (5 %, at most 1 GiB left), no more than that.
    :ivar workspace_inodes: the same in files, folders and links.
    :ivar jobs: jobs that run at once; 0 for none. `job_output_bytes`: what is kept of what one prints.
    :ivar host_mib: what may wait in the program itself for one session: tool calls and their results, and as much
        output. Further calls wait in the sandbox, further output is left out. Something larger goes alone.
    :raises ConfigError: for a limit that is not above 0.
    """

    timeout_s: float | None = 60.0
    grace_s: float = 2.0
    output_bytes: int = 4 * 1024 * 1024
    cpu_s: int | None = 3600
    memory_mib: int | None = 8192
    file_mib: int | None = 4096
    open_files: int | None = 4096
    processes: int | None = 4096
    workspace_mib: int | None = 16_384
    workspace_inodes: int | None = 1_000_000
    jobs: int = 8
    job_output_bytes: int = 1024 * 1024
    host_mib: int = 64

    def __attrs_post_init__(self) -> None:
        _check_limits(self)


def _check_limits(limits: Limits | Budgets) -> None:
    faults = []
    for field in attrs.fields(type(limits)):
        value, types = getattr(limits, field.name), str(field.type).split(" | ")
        if value is None and "None" in types:
            continue
        fits = type(value) is int or (type(value) is float and "float" in types)
        if not fits or (not value > 0 and (value != 0 or field.name not in ("grace_s", "jobs"))):
            what = "above 0" if fits else "a number" if "float" in types else "a whole number"
            free = " or None (no limit)" if "None" in types else ""
            faults.append(f"{type(limits).__name__}.{field.name}: must be {what}{free}, got {value!r}")
    if faults:
        raise ConfigError("\n".join(faults))


# --- tools -------------------------------------------------------------------------------------


class Blob(bytes):
    """Binary data in a tool's result: bytes that know what they are.

    In the model's code it arrives as the same (`bytes` with `mime_type` and `uri`), not as base64.
    """

    mime_type: str
    uri: str

    def __new__(cls, data: bytes, mime_type: str = "application/octet-stream", uri: str = "") -> Blob:
        made = super().__new__(cls, data)
        made.mime_type = mime_type
        made.uri = uri
        return made

    def __repr__(self) -> str:
        return f"<Blob {self.mime_type}, {len(self)} bytes>"


@attrs.frozen(kw_only=True)
class ToolSpec:
    """A tool as its source describes it.

    `name` is the source's own name (any string); `source` the skill it belongs to (`local` for `@tool`
    functions, the server's name for MCP). `input_schema` is a JSON Schema object; `output_schema` one for
    the result, or None. `timeout_s` bounds one call. `annotations` are the source's hints (MCP's `readOnlyHint`,
    `destructiveHint`), which are its word alone.
    """

    name: str
    description: str = ""
    input_schema: dict[str, object] = attrs.field(factory=dict)
    output_schema: dict[str, object] | None = None
    source: str = "local"
    timeout_s: float | None = None
    annotations: dict[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Binding:
    """A tool and the identifier under which code imports and calls it."""

    python_name: str
    spec: ToolSpec


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one model call or of several; `cost_usd` is None while unknown, and a part with `unpriced_requests`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0
    cost_usd: float | None = None
    unpriced_requests: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost_usd, other.cost_usd) if c is not None]
        unpriced = [u.requests if u.cost_usd is None else u.unpriced_requests for u in (self, other)]
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            requests=self.requests + other.requests,
            cost_usd=sum(costs) if costs else None,
            unpriced_requests=sum(unpriced) if costs else 0,
        )


@attrs.frozen(kw_only=True)
class Budgets:
    """The limits of one run. None lifts a limit; each has a default.

    Turns, tokens, money and tool calls are looked at before each request to the model, so the last round may go over
    them: over the money by the price of its answer. The wall time also ends a round that is under way: running code is
    stopped and its output so far is kept. An answer that becomes too long is not read further, and counts as cut.

    :ivar max_turns: requests to the model.
    :ivar wall_time_s: seconds from the start of the run.
    :ivar max_tokens: input and output tokens of all rounds together.
    :ivar max_cost_usd: US dollars for all rounds, and all requests of what runs below them.
    :ivar max_tool_calls: tool calls of all rounds together.
    :ivar max_rejected_rounds: rounds in a row in which no block could be run (an unknown language, say).
    :ivar max_answer_chars: characters of one answer: its text, and its native calls.
    :ivar max_result_chars: characters of one block's output that the model reads; the middle is cut.
    :ivar max_round_chars: the same for all blocks of a round together.
    """

    max_turns: int | None = 20
    wall_time_s: float | None = 600.0
    max_tokens: int | None = 2_000_000
    max_cost_usd: float | None = None
    max_tool_calls: int | None = 1_000
    max_rejected_rounds: int | None = 3
    max_answer_chars: int | None = 16 * 1024 * 1024
    max_result_chars: int = 40_000
    max_round_chars: int = 120_000

    def __attrs_post_init__(self) -> None:
        _check_limits(self)

    def exceeded(self, *, turns: int, elapsed_s: float, usage: Usage, tool_calls: int) -> StopReason | None:
        """Return which limit forbids another round, or None."""
        if self.max_turns is not None and turns >= self.max_turns:
            return "max_turns"
        if self.wall_time_s is not None and elapsed_s >= self.wall_time_s:
            return "wall_time"
        if self.max_tokens is not None and usage.total_tokens >= self.max_tokens:
            return "tokens"
        limit = self.max_tool_calls
        return "tool_calls" if limit is not None and tool_calls >= limit else None

    def result_chars(self, blocks: int) -> int:
        """Return how many characters of each block's output fit, if a round has `blocks` of them."""
        return max(1_000, min(self.max_result_chars, self.max_round_chars // max(1, blocks)))
