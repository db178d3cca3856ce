"""The hook of the parser plugin `fence`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

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

EXAMPLE: Final = """\
Example. Task: How many lines does notes.txt have? Your answer:

```bash:execute
wc -l notes.txt
```

Then you read the result in the next message, and answer without a block."""


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> Notation:
    """Return the notation.

    `options`: `starts_in_reasoning`, see `Notation`; `bare_fences`: what becomes of an answer without a block that ends
    in a fence with a language but no action: `nudge` (the model is told so and asked again, once in a run), `run` (it
    is a block, if it is the answer's only such fence; else as `nudge`) or `answer` (it is an answer like any other).
    """
    check_options(
        "the parser 'fence'",
        options,
        {"starts_in_reasoning": bool, "bare_fences": Literal["nudge", "run", "answer"]},
    )
    from agentd_parser_fence.bare import nudge
    from agentd_parser_fence.parser import FenceParser

    bare = options.get("bare_fences", "nudge")

    return Notation(
        guide=GUIDE,
        forms=FORMS,
        rules=("If a file's content has fences in it, give the block a longer fence (````).",),
        example=EXAMPLE,
        parser=partial(FenceParser, bare="only") if bare == "run" else FenceParser,
        review=None if bare == "answer" else nudge,
        starts_in_reasoning=options.get("starts_in_reasoning", False),
    )
