"""agentd: the runtime in which a language model acts by writing code.

Every public name is imported when it is first used, so that `import agentd` itself costs nothing. Their types, and
those of the official plugins' names, are in `__init__.pyi`.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    from agentd.registry.exports import resolve

    # `__all__`, too: core's own names. Those of plugins (`tool`, `patch_openai_with_ptc`, ...) are reachable, but left
    # out: a star import would fail where a plugin is not installed.
    value = globals()[name] = resolve(name)
    return value


def __dir__() -> list[str]:
    from agentd.registry.exports import public_names

    return sorted({*globals(), *public_names()})
