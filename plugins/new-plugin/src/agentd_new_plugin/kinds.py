"""What the projects of the kinds have of their own: names, and what they stand on."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["TEMPLATES", "KindTemplate"]


@attrs.frozen(kw_only=True)
class KindTemplate:
    """How a kind's project is named.

    :ivar prefix: of the distribution: `agentd-executor` makes `agentd-executor-acme`.
    :ivar module: the module of the implementation, beside `plugin.py`.
    :ivar suffix: of the class: `Executor` makes `AcmeExecutor`.
    :ivar needs: distributions of agentd that the plugin imports, besides the core.
    :ivar others: other requirements.
    :ivar tests: distributions of agentd that its tests use, besides agentd-testing.
    """

    prefix: str
    module: str
    suffix: str
    needs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


TEMPLATES: Final = {
    "executor": KindTemplate(
        prefix="agentd-executor", module="executor", suffix="Executor", needs=("agentd-runner",)
    ),
    "parser": KindTemplate(prefix="agentd-parser", module="parser", suffix="Parser"),
    "tool_source": KindTemplate(prefix="agentd-tools", module="source", suffix="Source"),
    "skill_renderer": KindTemplate(
        prefix="agentd-renderer", module="renderer", suffix="Renderer", needs=("agentd-skills",)
    ),
    "event_sink": KindTemplate(prefix="agentd-sink", module="sink", suffix="Sink"),
    "model": KindTemplate(
        prefix="agentd-model",
        module="model",
        suffix="Model",
        others=("anyio>=4.4",),
        tests=("agentd-executor-subprocess", "agentd-parser-fence", "agentd-skills", "agentd-tools"),
    ),
    "snapshot_store": KindTemplate(
        prefix="agentd-snapshots", module="store", suffix="Store", others=("attrs>=23.2",)
    ),
    "trigger": KindTemplate(
        prefix="agentd-trigger",
        module="trigger",
        suffix="Trigger",
        needs=("agentd-daemon",),
        others=("anyio>=4.4",),
    ),
    "command": KindTemplate(
        prefix="agentd-command",
        module="files",
        suffix="Files",
        needs=("agentd-cli",),
        others=("click>=8.1.8",),
    ),
}
"""By kind, as `agentd.hookspecs.GROUPS` names them."""
