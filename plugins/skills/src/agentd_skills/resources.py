"""The text of `lib/resources.py` and `lib/prompts.py`: MCP's resources and prompts for the model's code.

They call the tools of the source `resources` under the names that these tools are bound to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentd_tools.naming import Binding

__all__ = [
    "PROMPTS_LINE",
    "RESOURCES",
    "RESOURCES_GUIDE",
    "RESOURCES_LINE",
    "resource_modules",
    "resource_names",
]

RESOURCES: Final = "resources"
"""The source that the tools belong to."""

RESOURCES_LINE: Final = (
    "resources.list(server=None), resources.templates(server=None), resources.read(uri, server=None)"
)
PROMPTS_LINE: Final = "prompts.list(server=None), prompts.get(name, arguments=None, server=None)"
RESOURCES_GUIDE: Final = f"""\
What the servers offer to be read, and their prompt templates; the same functions are in two modules:

```python
from lib import prompts, resources
# {RESOURCES_LINE}
# {PROMPTS_LINE}
```"""

_TOOLS: Final = (
    "list_resources", "list_resource_templates", "read_resource", "list_prompts", "get_prompt",
)  # fmt: skip
_HEAD: Final = """\
# mypy: ignore-errors
from __future__ import annotations

from ._bridge import call as _call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from typing import Any


def _given(**arguments):
    return {k: v for k, v in arguments.items() if v is not None}


"""
_MODULES: Final = {
    "resources": '''\
"""What the tool servers offer to be read. Written by agentd; changes are overwritten.

    from lib import resources

`server` is a server's name; without it, all servers are asked. Failures raise `lib.tools.ToolError`.
"""

__all__ = ["list", "read", "templates"]


def list(server: str | None = None) -> builtins.list[dict[str, Any]]:
    """Return the resources: dictionaries with `uri`, `name`, and what else the server says."""
    return _call(@list_resources@, _given(server=server))


def templates(server: str | None = None) -> builtins.list[dict[str, Any]]:
    """Return the templates of resources' addresses: dictionaries with `uriTemplate`, `name` and more."""
    return _call(@list_resource_templates@, _given(server=server))


def read(uri: str, server: str | None = None) -> Any:
    """Return a resource: text as `str`, anything else as `bytes`; a list where there are several parts."""
    return _call(@read_resource@, _given(uri=uri, server=server))
''',
    "prompts": '''\
"""The prompt templates of the tool servers. Written by agentd; changes are overwritten.

    from lib import prompts

`server` is a server's name; without it, all servers are asked. Failures raise `lib.tools.ToolError`.
"""

__all__ = ["get", "list"]


def list(server: str | None = None) -> builtins.list[dict[str, Any]]:
    """Return the prompts: dictionaries with `name`, `arguments`, and what else the server says."""
    return _call(@list_prompts@, _given(server=server))


def get(name: str, arguments: dict[str, str] | None = None, server: str | None = None) -> Any:
    """Return the messages that a prompt makes of its arguments."""
    return _call(@get_prompt@, _given(name=name, arguments=arguments, server=server))
''',
}


def resource_names(bindings: Sequence[Binding]) -> Mapping[str, str] | None:
    """Return the Python names of the five tools, or None unless all are there."""
    names = {
        b.spec.name: b.python_name for b in bindings if b.spec.source == RESOURCES and b.spec.name in _TOOLS
    }
    return names if len(names) == len(_TOOLS) else None


def resource_modules(names: Mapping[str, str]) -> dict[str, str]:
    """Return the source of `lib/resources.py` and `lib/prompts.py` by module name."""
    texts = {}
    for module, body in _MODULES.items():
        docstring, rest = body.split('"""\n\n', 1)
        text = f'{docstring}"""\n\n{_HEAD}{rest}'
        for tool in _TOOLS:
            text = text.replace(f"@{tool}@", repr(names[tool]))
        texts[module] = text
    return texts
