"""Names of what several servers offer."""

from __future__ import annotations

import pytest
from agentd_mcp_server.offered_lists import GivenNames, OfferedList, fits_template, of_servers
from agentd_mcp_server.outbox import Outbox
from hypothesis import given, strategies as st
from mcp_types import Prompt, Resource, Tool

WORDS = st.text("ab_-/ ", max_size=4)
SERVERS = st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=6)), max_size=4)


@given(SERVERS, st.lists(WORDS, max_size=3))
def test_no_two_offers_share_a_name_and_each_leads_to_its_own(
    servers: list[tuple[str, list[str]]], taken: list[str]
) -> None:
    offers = [
        (number, server, [Tool(name=name, input_schema={"type": "object"}) for name in names])
        for number, (server, names) in enumerate(servers)
    ]
    made = of_servers("tools", offers, taken)
    names = [tool.name for tool in made.items]
    assert len(set(names)) == len(names) == len(made.places)
    assert not set(names) & set(taken)
    for number, (_, own) in enumerate(servers):
        led_to = [place.name for place in made.places.values() if place.server == number]
        assert sorted(led_to) == sorted({name for name in own if name})


def test_a_name_is_changed_only_where_it_clashes() -> None:
    offers = [
        (0, "one", [Prompt(name="a"), Prompt(name="b")]),
        (1, "two", [Prompt(name="a"), Prompt(name="c"), Prompt(name="a")]),
        (2, "two", [Prompt(name="a")]),
    ]
    made = of_servers("prompts", offers)
    assert [prompt.name for prompt in made.items] == ["a", "b", "two_a", "c", "two_a_2"]
    assert [made.places[name].server for name in ("a", "two_a", "two_a_2")] == [0, 1, 2]


def test_a_name_stays_its_own_when_the_server_that_has_it_is_away() -> None:
    one, two = (0, "one", [Prompt(name="a")]), (1, "two", [Prompt(name="a"), Prompt(name="b")])
    names = GivenNames()
    assert [prompt.name for prompt in of_servers("prompts", [one, two], (), names).items] == [
        "a",
        "two_a",
        "b",
    ]
    alone = of_servers("prompts", [two], (), names)
    assert [prompt.name for prompt in alone.items] == ["two_a", "b"]
    assert "a" not in alone.places
    back = of_servers("prompts", [one, two], ("b",), names)  # which is agentd's own by now
    assert [prompt.name for prompt in back.items] == ["a", "two_a", "two_b"]


def test_names_under_which_nothing_is_offered_are_forgotten_when_there_are_too_many() -> None:
    names = GivenNames(most=3)
    for number in range(10):
        of_servers("prompts", [(0, "one", [Prompt(name=f"p{number}"), Prompt(name="always")])], (), names)
    other = of_servers("prompts", [(1, "two", [Prompt(name="p0"), Prompt(name="always")])], (), names)
    assert [prompt.name for prompt in other.items] == ["p0", "two_always"]


@pytest.mark.parametrize(
    ("uri", "template", "fits"),
    [
        ("shelf://top", "shelf://{name}", True),
        ("shelf://top/1", "shelf://{name}", False),
        ("shelf://a%20b?x=1", "shelf://{name}{?x}", True),
        ("book://top", "shelf://{name}", False),
        ("shelf://top", "{+everything}", False),
        ("shelf://top", "shelf://{", False),
        ("", "", False),
    ],
)
def test_a_template_fits_what_it_may_be_of(uri: str, template: str, fits: bool) -> None:
    assert fits_template(uri, template) is fits


def test_of_two_resources_with_one_address_the_first_is_listed() -> None:
    offers = [(n, "s", [Resource(uri="a://b", name=f"number {n}")]) for n in (0, 1)]
    made = of_servers("resources", offers)
    assert [resource.name for resource in made.items] == ["number 0"]
    assert made.places["a://b"].server == 0


@given(st.integers(0, 1700))
def test_the_pages_of_a_list_are_the_list(count: int) -> None:
    made = OfferedList(items=range(count))
    seen, cursor = made.page(None)
    while cursor is not None:
        page, cursor = made.page(cursor)
        assert 0 < len(page) <= 500
        seen += page
    assert seen == list(range(count))


@pytest.mark.parametrize("cursor", ["", "-1", "x", "01", "1e3", "999999"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whichever way it is none
        OfferedList(items=range(600)).page(cursor)


@pytest.mark.anyio
async def test_what_comes_when_a_client_reads_nothing_is_left_out_and_the_rest_arrives_in_order() -> None:
    sent: list[int] = []
    box = Outbox(most=3)

    def sending(number: int) -> object:
        async def send() -> None:
            sent.append(number)

        return send

    for number in range(10):
        box.put(sending(number))  # type: ignore[arg-type]
    box.close()
    box.put(sending(10))  # type: ignore[arg-type]
    await box.deliver()
    assert sent == [0, 1, 2]


@pytest.mark.anyio
async def test_what_says_the_same_waits_once_and_what_is_too_large_together_is_left_out() -> None:
    sent: list[str] = []
    box = Outbox(most_bytes=10)

    def sending(text: str) -> object:
        async def send() -> None:
            sent.append(text)

        return send

    for text, key, size in (
        ("changed", "tools", 0),
        ("changed", "tools", 0),
        ("long", None, 9),
        ("longer", None, 9),
        ("short", None, 1),
        ("changed", "prompts", 0),
    ):
        box.put(sending(text), key=key, size=size)  # type: ignore[arg-type]
    box.close()
    await box.deliver()
    assert sent == ["changed", "long", "short", "changed"]
