"""The hook of the parser plugin `xml`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentd.hookspecs import hookimpl
from agentd.notation import Notation
from agentd.registry.options import check_options

__all__ = ["AGENTD_API", "agentd_create_parser"]

AGENTD_API: Final = 1

GUIDE: Final = (
    "A function call in your answer in one of these three forms, with its tags at the beginning of a line, is "
    "carried out in your working directory while you write; code in any other form is only shown:"
)

FORMS: Final = """\
<function_calls>
<invoke name="bash:execute">
<parameter name="code">COMMANDS</parameter>
</invoke>
</function_calls>

<function_calls>
<invoke name="python:execute">
<parameter name="code">CODE</parameter>
</invoke>
</function_calls>

<function_calls>
<invoke name="PATH:create">
<parameter name="content">CONTENT OF THE FILE</parameter>
</invoke>
</function_calls>"""


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> Notation:
    """Return the notation. `options`: `starts_in_reasoning`, see `Notation`."""
    check_options("the parser 'xml'", options, {"starts_in_reasoning": bool})
    from agentd_parser_xml.parser import XmlParser

    return Notation(
        guide=GUIDE,
        forms=FORMS,
        rules=("Code and content stand there as they are: they need no XML escapes.",),
        parser=XmlParser,
        starts_in_reasoning=options.get("starts_in_reasoning", False),
    )
