"""The XML parser keeps the contract of parsers."""

from __future__ import annotations

from typing import ClassVar

from agentd.notation import Notation
from agentd.types import Block
from agentd_parser_xml.parser import LONGEST_OPENER
from agentd_parser_xml.plugin import agentd_create_parser
from agentd_testing import ParserContract


class TestXmlParser(ParserContract):
    examples: ClassVar[dict[str, Block]] = {
        '<invoke name="bash:execute"><parameter name="command">ls -l</parameter></invoke>': Block(
            "bash", "execute", "ls -l", "bash"
        ),
    }
    parts = (
        '<invoke name="bash:execute">',
        "<ns:invoke name='x y.txt:create'>",
        '<invoke name="other">',
        "</invoke>",
        '<parameter name="command">',
        "</parameter>",
        "</ns:parameter >",
        "<parameter>",
        "<function_calls>",
        "</function_calls>",
        "<ns:tool_calls >",
        "</ns:tool_calls>",
        "</",
        "<inv",
        "oke ",
        "<![CDATA[",
        "]]>",
        "&lt;",
        "&&",
        "name='py:execute'",
    )
    longest_held = LONGEST_OPENER

    def make_notation(self) -> Notation:
        return agentd_create_parser({})
