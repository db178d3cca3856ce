"""What holds for every answer and every way of cutting it."""

from __future__ import annotations

from agentd_parser_xml.parser import LONGEST_OPENER, XmlParser
from hypothesis import given, strategies as st

TAGS = st.sampled_from(
    [
        '<invoke name="bash:execute">',
        "<ns:invoke name='x y.txt:create'>",
        '<invoke name="other">',
        "</invoke>",
    ]
)
PARAMETERS = st.sampled_from(
    ['<parameter name="command">', "</parameter>", "</ns:parameter >", "<parameter>"]
)
WRAPPERS = st.sampled_from(["<function_calls>", "</function_calls>", "<ns:tool_calls >", "</ns:tool_calls>"])
PARTS = st.sampled_from(
    ["<", ">", "</", "<inv", "oke ", "<![CDATA[", "]]>", "&lt;", "&&", "name='py:execute'"]
)
OTHERS = st.sampled_from([" ", "    ", "\t", "\n", "\r\n", "\r", "`", "``", "text", "🚀", "\0"])
WHOLE = st.just('<invoke name="sh:execute"><parameter name="command">ls</parameter></invoke>')
ANSWERS = st.one_of(
    st.lists(TAGS | PARAMETERS | WRAPPERS | PARTS | OTHERS | WHOLE, max_size=40).map("".join),
    st.text(max_size=80),
    st.text(alphabet="<>/:invokefunction_calls ", max_size=60),
)
CUTS = st.lists(st.integers(0, 800), max_size=30)


@given(ANSWERS)
def test_outside_of_a_call_only_what_begins_with_a_bracket_is_held_back(text: str) -> None:
    parser = XmlParser()
    given_out = 0
    for index, char in enumerate(text):
        given_out += sum(len(s.text) for s in parser.feed(char))
        held = text[given_out : index + 1]
        inside_a_call = ":execute" in held or ":create" in held
        assert not held or held.startswith("<")
        assert inside_a_call or len(held) <= LONGEST_OPENER
