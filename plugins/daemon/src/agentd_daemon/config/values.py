"""The configuration of the daemon as values, as `agentd_daemon.config.loading` reads it from files.

What each key means is said here and nowhere else: the JSON Schema takes its descriptions from these
docstrings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
from agentd.registry.config import PluginConfig
from agentd.types import Budgets

from agentd_daemon.config.structuring import Bounds

if TYPE_CHECKING:
    from agentd_history import History

__all__ = [
    "AgentConfig",
    "AgentDefaults",
    "AgentServerConfig",
    "BudgetsConfig",
    "DaemonConfig",
    "HistoryConfig",
    "OnErrorConfig",
    "Plugin",
    "Secret",
    "SubscriptionConfig",
    "ToolFilterConfig",
    "TriggerConfig",
    "plugin_name",
    "plugin_options",
]

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Names are folders of the state folder, prompts of the REPL and words of commands."""

Name = Annotated[
    str,
    Bounds(
        max_length=64,
        pattern=NAME_PATTERN,
        words="letters, digits, '_', '-' and '.', with a letter or digit first",
    ),
]
Text = Annotated[str, Bounds(min_length=1)]
Url = Annotated[
    str, Bounds(pattern=r"^https?://[^/?#\s]", words="a URL that starts with http:// or https://")
]
Variable = Annotated[str, Bounds(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=", words="NAME=value")]
Count = Annotated[int, Bounds(ge=1)]
Seconds = Annotated[float, Bounds(gt=0)]
Dollars = Annotated[float, Bounds(gt=0)]
Plugin = Text | tuple[Text, dict[str, Any]]
"""A plugin's name, or a list of its name and its options."""


def plugin_name(plugin: Plugin) -> str:
    """Return a plugin's name, without its options."""
    return plugin if isinstance(plugin, str) else plugin[0]


def plugin_options(plugin: Plugin) -> dict[str, Any]:
    """Return a plugin's options; none if only its name is given."""
    return {} if isinstance(plugin, str) else plugin[1]


class Secret:
    """A text that is never shown: `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)


class _Reticent:
    """Shows no value but names: any other may have come from the environment or a file of secrets."""

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        return f"{type(self).__name__}({f'name={name!r}, ' if name else ''}...)"


@attrs.frozen(kw_only=True, repr=False)
class ToolFilterConfig(_Reticent):
    """Which tools of a server an agent has: globs on their names; `deny` wins.

    :ivar allow: tools that are offered; null for all.
    :ivar deny: tools that are not.
    """

    allow: tuple[Text, ...] | None = None
    deny: tuple[Text, ...] = ()


@attrs.frozen(kw_only=True, repr=False)
class AgentServerConfig(_Reticent):
    """An MCP server.

    :ivar type: `stdio` starts a program, `http` (streamable HTTP) and `sse` connect to a URL.
    :ivar command: the program of a `stdio` server.
    :ivar arguments: its arguments, one text each.
    :ivar env_vars: its environment variables beside PATH, HOME and the like, as `NAME=value`.
    :ivar url: the address of an `http` or `sse` server.
    :ivar headers: HTTP headers that are sent to it with every request.
    :ivar tool_filter: which of its tools the agent has: globs that allow, or a mapping with `allow` and `deny`.
        An empty list, as without the key, allows all.
    :ivar name: what the agent and `server` of a subscription call it; by default made from the command or URL.
    :ivar timeout: seconds for one call of a tool; by default 60.
    """

    type: Literal["stdio", "http", "sse"] = "stdio"
    command: Text | None = None
    arguments: tuple[str, ...] = ()
    env_vars: tuple[Variable, ...] = ()
    url: Url | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    tool_filter: tuple[Text, ...] | ToolFilterConfig = ()
    name: Name | None = None
    timeout: Seconds | None = None

    def filter(self) -> ToolFilterConfig:
        """Return `tool_filter` in its long form."""
        if isinstance(self.tool_filter, ToolFilterConfig):
            return self.tool_filter
        return ToolFilterConfig(allow=self.tool_filter or None)

    def spec(self) -> dict[str, Any]:
        """Return the server as the hook `agentd_create_tool_sources` of agentd-mcp-bridge takes it."""
        spec: dict[str, Any] = {"type": self.type}
        if self.type == "stdio":
            spec |= {"command": self.command, "args": list(self.arguments), "env": self.environment()}
        else:
            spec |= {"url": self.url, "headers": dict(self.headers)}
        kept = self.filter()
        if kept != ToolFilterConfig():
            allow = None if kept.allow is None else list(kept.allow)
            spec["tool_filter"] = {"allow": allow, "deny": list(kept.deny)}
        if self.name is not None:
            spec["name"] = self.name
        if self.timeout is not None:
            spec["timeout_s"] = self.timeout
        return spec

    def environment(self) -> dict[str, str]:
        """Return `env_vars` as a dictionary."""
        pairs = (variable.partition("=") for variable in self.env_vars)
        return {name: value for name, _, value in pairs}


@attrs.frozen(kw_only=True, repr=False)
class SubscriptionConfig(_Reticent):
    """Something that wakes the agent when it changes.

    :ivar uri: a resource's URI, or `tool://NAME/?argument=value` for what a tool returns.
    :ivar poll_interval: seconds between two looks, if the server does not tell of changes; by default the agent's.
    :ivar diff: give the agent the difference to the last content, too.
    :ivar server: the `name` of the server that has it, where several might.
    :ivar prompt: what to tell the agent with the content.
    :ivar max_in_a_row: how often in a row the agent may be woken by what changes while it is at work, or just after;
        then it seems to change it itself, and is not woken by it for a while. Null lifts it.
    """

    uri: Text
    poll_interval: Seconds | None = None
    diff: bool = False
    server: Name | None = None
    prompt: str = ""
    max_in_a_row: Count | None = 20


@attrs.frozen(kw_only=True, repr=False)
class TriggerConfig(_Reticent):
    """Something outside of the agent's servers that wakes it.

    :ivar kind: the trigger plugin: `cron`, `file`, `webhook`, `mcp-events`, or another that is installed.
    :ivar name: what the journal and the agent call it; by default its kind. What was seen is kept under this name.
    :ivar options: options of the plugin.
    :ivar prompt: what to tell the agent with the event.
    :ivar max_waiting: events of it that may wait for the agent.
    :ivar max_in_a_row: how often in a row the agent may be woken by what comes while it is at work, or just after; then
        it seems to cause it itself, and is not woken by it for a while. Null lifts it. Times (`cron`) do not count.
    """

    kind: Text
    name: Name | None = None
    options: dict[str, Any] = attrs.field(factory=dict)
    prompt: str = ""
    max_waiting: Count = 100
    max_in_a_row: Count | None = 20

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.kind

    @property
    def uri(self) -> str:
        """What the journal calls it."""
        return f"trigger:{self.called}"


@attrs.frozen(kw_only=True, repr=False)
class BudgetsConfig(_Reticent):
    """What one task may use before it is ended. Null lifts a limit.

    :ivar max_turns: requests to the model.
    :ivar wall_time_s: seconds.
    :ivar max_tokens: input and output tokens together.
    :ivar max_cost_usd: US dollars, over all attempts at the task; the model's price must be known.
    :ivar max_tool_calls: calls of tools.
    :ivar max_rejected_rounds: rounds in a row in which no block could be run.
    :ivar max_answer_chars: characters of one answer of the model; one that goes on is cut there.
    :ivar max_result_chars: characters of one result that the model reads; the middle is cut.
    :ivar max_round_chars: characters of all results of a round together.
    """

    max_turns: Count | None = 20
    wall_time_s: Seconds | None = 600.0
    max_tokens: Count | None = 2_000_000
    max_cost_usd: Dollars | None = None
    max_tool_calls: Count | None = 1_000
    max_rejected_rounds: Count | None = 3
    max_answer_chars: Count | None = 16 * 1024 * 1024
    max_result_chars: Count = 40_000
    max_round_chars: Count = 120_000

    def limits(self) -> Budgets:
        """Return the budgets of a run."""
        return Budgets(**{field.name: getattr(self, field.name) for field in attrs.fields(type(self))})


@attrs.frozen(kw_only=True, repr=False)
class HistoryConfig(_Reticent):
    """How the conversation is kept from growing without end.

    :ivar rule: what becomes of the older part: `keep` leaves all of it, `shorten` leaves of old results their head and
        tail, `drop` forgets old tasks after that, `summarise` lets the model sum them up.
    :ivar max_tokens: tokens that the conversation may have (an estimate).
    :ivar keep_turns: the newest tasks that stay whole, whatever they cost.
    """

    rule: Literal["keep", "shorten", "drop", "summarise"] = "drop"
    max_tokens: Count = 100_000
    keep_turns: Annotated[int, Bounds(ge=0)] = 2

    def policy(self) -> History:
        """Return the policy of a session."""
        from agentd_history import History

        return History(rule=self.rule, max_tokens=self.max_tokens, keep_turns=self.keep_turns)


@attrs.frozen(kw_only=True, repr=False)
class OnErrorConfig(_Reticent):
    """What happens when a task fails: the provider is away, or a server.

    :ivar retries: how often it is tried again.
    :ivar backoff_s: seconds before the first retry; each further wait is twice as long.
    :ivar max_backoff_s: seconds of the longest wait.
    :ivar then: after the last retry, `park` stops the agent until a person resumes it, `skip` goes on with
        the next task.
    """

    retries: Annotated[int, Bounds(ge=0)] = 10  # with the pauses below, a quarter of an hour
    backoff_s: Seconds = 1.0
    max_backoff_s: Seconds = 300.0
    then: Literal["park", "skip"] = "park"


@attrs.frozen(kw_only=True, repr=False)
class AgentDefaults(_Reticent):
    """What agents have that do not say otherwise. An agent's own key wins.

    :ivar model: the model's name, as its provider calls it, or a list of the name and options of that provider.
    :ivar system_prompt: what the model is told before anything else.
    :ivar mcp_servers: the MCP servers whose tools the agent has.
    :ivar tools: further tools: texts that tool source plugins take, such as `models:gpt-4.1-nano` (what code, or the
        agent, may ask models), each a text or a list of the text and options.
    :ivar mode: how the agent acts: `tools` by calling tools natively, as JSON; `ptc` by writing code that an
        executor runs.
    :ivar executor: with `ptc`, the executor plugin that runs the code, or a list of its name and its options. By
        default what the variable `AGENTD_EXECUTOR` says, then `auto`: the sandbox `native` where this machine can run
        it, else `subprocess`, which is no sandbox.
    :ivar executor_options: options of the executor; they win over those in the list.
    :ivar parsers: with `ptc`, the parser plugins, each a name or a list of name and options; the model is taught the
        notation of the first. By default all that are installed, `fence` first.
    :ivar renderer: with `ptc`, the skill renderer plugin that writes tools as files for the code, or a list of its
        name and its options.
    :ivar skills: with `ptc`, folders of skills, and folders of such folders, that the code may read.
    :ivar snapshots: the snapshot store plugin that keeps checkpoints, or a list of its name and its options.
    :ivar budgets: what one task may use.
    :ivar policy: what the agent may do: a preset (`read-only`, `ask-writes`, `yolo`), a file of rules, or the rules
        themselves, as in such a file.
    :ivar approver: who is asked where the policy says so: `daemon`, the default, keeps the question in the journal, for
        `agentd approvals` and the prompt; a list of `webhook` and its `url` (and `token`) asks that, too. The option
        `hold_s` of both is how many seconds (300) a call waits before its task is parked and its sandbox ends.
    :ivar answer: what the answer to each task has to be: JSON that fits this JSON Schema, or the one in this file. One
        that does not fit is asked for once more; then the task has failed.
    :ivar images: show the model pictures: those that tools return, and those that code shows (`agentd-images`).
    :ivar poll_interval: seconds between two looks at what a server does not tell the changes of.
    :ivar history: how the conversation is kept from growing without end.
    :ivar on_error: what happens when a task fails.
    :ivar event_sinks: event sink plugins that get the agent's events, each a name or a list of name and options.
    :ivar cwd: the agent's workspace; by default a folder of its own in the state folder.
    :ivar provider: the provider's prefix that LiteLLM knows, such as `gemini`.
    :ivar base_url: the address of an OpenAI-compatible server; by default OpenAI's.
    :ivar api_key: the provider's key; by default what its environment variable says. Write a reference
        (`${OPENAI_API_KEY}`, `${file:key.txt}`), not the key.
    :ivar api: which of OpenAI's APIs to speak.
    :ivar model_options: options for every request to the model, such as `temperature`.
    :ivar checkpoints: take a checkpoint of workspace and conversation after every task. The newest 1,000 are kept.
    """

    model: Plugin = ""
    system_prompt: str = ""
    mcp_servers: tuple[AgentServerConfig, ...] = ()
    tools: tuple[Plugin, ...] = ()
    mode: Literal["tools", "ptc"] = "tools"
    executor: Plugin = ""
    executor_options: dict[str, Any] = attrs.field(factory=dict)
    parsers: tuple[Plugin, ...] | None = None
    renderer: Plugin = "agentskills"
    skills: tuple[Text, ...] = ()
    snapshots: Plugin = "packs"
    budgets: BudgetsConfig = attrs.field(factory=BudgetsConfig)
    policy: Text | dict[str, Any] | None = None
    approver: Plugin | None = None
    answer: Text | dict[str, Any] | None = None
    images: bool = False
    poll_interval: Seconds = 60.0
    history: HistoryConfig = attrs.field(factory=HistoryConfig)
    on_error: OnErrorConfig = attrs.field(factory=OnErrorConfig)
    event_sinks: tuple[Plugin, ...] = ()
    cwd: Text | None = None
    provider: Text | None = None
    base_url: Url | None = None
    api_key: Secret | None = None
    api: Literal["chat", "responses"] = "chat"
    model_options: dict[str, Any] = attrs.field(factory=dict)
    checkpoints: bool = False

    @property
    def model_name(self) -> str:
        """The model's name alone."""
        return plugin_name(self.model)


@attrs.frozen(kw_only=True, repr=False)
class AgentConfig(AgentDefaults):
    """One agent. It has every key of the defaults, too; `model` must be in one of the two.

    :ivar name: the agent's name: letters, digits, `_`, `-` and `.`, at most 64.
    :ivar subscriptions: what wakes the agent: URIs, or mappings with a `uri` and more.
    :ivar triggers: what else wakes it: times, files, webhooks, mappings with a `kind` and its `options`.
    """

    name: Name
    subscriptions: tuple[Text | SubscriptionConfig, ...] = ()
    triggers: tuple[TriggerConfig, ...] = ()

    def wakers(self) -> tuple[SubscriptionConfig, ...]:
        """Return `subscriptions` in their long form, each with its poll interval."""
        longs = (SubscriptionConfig(uri=s) if isinstance(s, str) else s for s in self.subscriptions)
        return tuple(
            s if s.poll_interval is not None else attrs.evolve(s, poll_interval=self.poll_interval)
            for s in longs
        )


@attrs.frozen(kw_only=True, repr=False)
class DaemonConfig(_Reticent):
    """The configuration of `agentd`: agents, what they share, and which plugins may be loaded.

    :ivar agents: the agents; each works on its own.
    :ivar defaults: what agents have that do not say otherwise.
    :ivar plugins: which installed plugins may be loaded.
    :ivar state_dir: where the journal, workspaces and checkpoints are kept.
    :ivar store: with `--fleet`, the URL of where agents are kept, such as `s3://bucket/folder`: all nodes reach it.
    """

    agents: tuple[AgentConfig, ...] = ()
    defaults: AgentDefaults = attrs.field(factory=AgentDefaults)
    plugins: PluginConfig = attrs.field(factory=PluginConfig)
    state_dir: Text | None = None
    store: Text | None = None

    def __repr__(self) -> str:
        return f"DaemonConfig(agents={self.agents!r}, ...)"
