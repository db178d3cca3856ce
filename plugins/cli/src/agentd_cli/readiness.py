"""What `agentd run`, a patched client and the daemon need, and which of it is missing here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import attrs
from agentd.registry import PluginRecord

__all__ = ["USES", "Need", "Use", "has_key", "pip_line", "wanting"]


@attrs.frozen
class Need:
    """Something that one way of using agentd needs.

    :ivar kind: a kind of plugin of which one must load; empty if `module` is to be there.
    :ivar works: a plugin of the kind must also work on this machine.
    :ivar brought_by: what pip is told to install.
    """

    what: str
    brought_by: str
    kind: str = ""
    name: str = ""
    module: str = ""
    works: bool = False

    def is_met(self, records: Iterable[PluginRecord], working: Sequence[str]) -> bool:
        """Tell whether it is there. `working` are the executors that run here."""
        if self.module:
            return find_spec(self.module) is not None
        loaded = [r.name for r in records if r.kind == self.kind and r.state == "loaded"]
        if self.works:
            return any(name in working for name in loaded)
        return self.name in loaded if self.name else bool(loaded)


@attrs.frozen
class Use:
    """One way of using agentd, and what it needs."""

    name: str
    needs: tuple[Need, ...]


_EXECUTOR = Need("an executor that works here", "agentd-executor-subprocess", kind="executor", works=True)
_PARSER = Need("a parser", "agentd-parser-fence", kind="parser")
_MODEL = Need("a model provider", "agentd-model-openai", kind="model")
_MCP = Need("the tool source mcp", "agentd-mcp-bridge", kind="tool_source", name="mcp")
_DAEMON = Need("the command daemon", "agentd-daemon[prompt]", kind="command", name="daemon")
_FACADE = Need("the patch of the client", "agentd-openai", module="agentd_openai")
_SDK = Need("the openai package", "openai", module="openai")

USES = (
    Use("agentd run", (_EXECUTOR, _PARSER, _MODEL, _SDK)),
    Use("a patched OpenAI client", (_FACADE, _EXECUTOR, _PARSER, _SDK)),
    Use("the daemon", (_DAEMON, _MODEL, _MCP, _SDK)),
)


def wanting(use: Use, records: Sequence[PluginRecord], working: Sequence[str]) -> list[Need]:
    """Return what is missing for one use."""
    return [need for need in use.needs if not need.is_met(records, working)]


def pip_line(needs: Iterable[Need]) -> str:
    """Return one command that installs what is not installed of this, or an empty string.

    It is for any shell: zsh takes bare brackets for a pattern.
    """
    names = dict.fromkeys(need.brought_by for need in needs if not _is_installed(need.brought_by))
    quoted = " ".join(f"'{name}'" if "[" in name else name for name in names)
    return f"pip install {quoted}" if quoted else ""


def _is_installed(name: str) -> bool:
    try:
        version(name.partition("[")[0])
    except PackageNotFoundError:
        return False
    return True


def has_key() -> bool:
    """Tell whether there is a key for the model, or another server that may need none."""
    return bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))
