"""The fence parser keeps the contract of parsers."""

from __future__ import annotations

from typing import ClassVar

from agentd.notation import Notation
from agentd.types import Block
from agentd_parser_fence.parser import LONGEST_OPENER
from agentd_parser_fence.plugin import agentd_create_parser
from agentd_testing import ParserContract


class TestFenceParser(ParserContract):
    examples: ClassVar[dict[str, Block]] = {
        "```bash:execute\nls -l\n```\n": Block("bash", "execute", "ls -l\n", "bash"),
        "~~~~python:execute\nprint(1)\n~~~~\n": Block("python", "execute", "print(1)\n", "python"),
        "```a b.txt:create\ntext\n```\n": Block("a b.txt", "create", "text\n", "a b.txt"),
    }
    parts = (
        "```",
        "````",
        "~~~",
        "~",
        "bash:execute",
        "a b.txt:create",
        "js",
        "* * *",
        "\n```sh:execute\nls\n```\n",
    )
    longest_held = LONGEST_OPENER + 1

    def make_notation(self) -> Notation:
        return agentd_create_parser({})


class TestBareFences(TestFenceParser):
    """With `bare_fences: run`, a fence is held back until it is known whether it is the end."""

    parts = (*TestFenceParser.parts, "bash", "\n```py\nprint()\n```\n")

    def make_notation(self) -> Notation:
        return agentd_create_parser({"bare_fences": "run"})
