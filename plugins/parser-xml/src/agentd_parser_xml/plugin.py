"""The hooks of the parser plugin `xml`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.hookspecs import hookimpl
from agentd.notation import Notation
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_parser_xml.parser import XmlParser

__all__ = ["AGENTD_API", "NOTATION", "agentd_create_parser", "agentd_describe_notation"]

AGENTD_API: Final = 1

NOTATION: Final = Notation(
    guide=(
        "A function call in your answer in one of these three forms, with its tags at the beginning of a line, is "
        "carried out in your working directory while you write; code in any other form is only shown:"
    ),
    forms="""\
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
</function_calls>""",
    rules=("Code and content stand there as they are: they need no XML escapes.",),
)


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> XmlParser:
    """Make a parser for one answer. There are no options."""
    from agentd_parser_xml.parser import XmlParser

    check_options("the parser 'xml'", options, {})
    return XmlParser()


@hookimpl
def agentd_describe_notation(options: Mapping[str, Any]) -> Notation:
    """Return how a model writes function calls."""
    return NOTATION
