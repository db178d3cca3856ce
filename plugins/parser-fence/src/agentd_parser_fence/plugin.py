"""The hooks of the parser plugin `fence`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.hookspecs import hookimpl
from agentd.notation import Notation
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_parser_fence.parser import FenceParser

__all__ = ["AGENTD_API", "NOTATION", "agentd_create_parser", "agentd_describe_notation"]

AGENTD_API: Final = 1

NOTATION: Final = Notation(
    guide=(
        "A fenced block in your answer whose info string is one of these three forms is carried out in your working "
        "directory while you write; any other fenced block is only shown:"
    ),
    forms="""\
```bash:execute
COMMANDS
```

```python:execute
CODE
```

```PATH:create
CONTENT OF THE FILE
```""",
    rules=("If a file's content has fences in it, give the block a longer fence (````).",),
)


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> FenceParser:
    """Make a parser for one answer. There are no options."""
    from agentd_parser_fence.parser import FenceParser

    check_options("the parser 'fence'", options, {})
    return FenceParser()


@hookimpl
def agentd_describe_notation(options: Mapping[str, Any]) -> Notation:
    """Return how a model writes fences."""
    return NOTATION
