"""The hook of the parser plugin `fence`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentd.hookspecs import hookimpl
from agentd.notation import Notation
from agentd.registry.options import check_options

__all__ = ["AGENTD_API", "agentd_create_parser"]

AGENTD_API: Final = 1

GUIDE: Final = (
    "A fenced block in your answer whose info string is one of these three forms is carried out in your working "
    "directory while you write; any other fenced block is only shown:"
)

FORMS: Final = """\
```bash:execute
COMMANDS
```

```python:execute
CODE
```

```PATH:create
CONTENT OF THE FILE
```"""


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> Notation:
    """Return the notation. `options`: `starts_in_reasoning`, see `Notation`."""
    check_options("the parser 'fence'", options, {"starts_in_reasoning": bool})
    from agentd_parser_fence.parser import FenceParser

    return Notation(
        guide=GUIDE,
        forms=FORMS,
        rules=("If a file's content has fences in it, give the block a longer fence (````).",),
        parser=FenceParser,
        starts_in_reasoning=options.get("starts_in_reasoning", False),
    )
