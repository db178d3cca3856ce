"""YAML: what is refused and why, and where each value is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd.text import valid_text
from agentd_daemon.config.document import MAX_FILE_BYTES, read_document
from agentd_daemon.config.loading import examine
from hypothesis import given, settings, strategies as st

Write = Callable[..., Path]
Errors = Callable[..., list[str]]


def said(path: Path) -> list[str]:
    return [problem.message for problem in read_document(path, {}).problems]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1\nb: 2", "2:2", "expected ',' or ']'"),
        ("a: b: c", "1:5", "put a text that has a colon in quotes"),
        ("a:\n\t- b", "2:1", "YAML indents with spaces"),
        ("a: *nobody", "1:4", "found undefined alias"),
        ("a: 1\n---\nb: 2", "2:1", "a second document"),
        ("a: 'open", "1:9", "found unexpected end of stream"),
        ("a: {b: ${X}}", "1:9", "put a text with ${...} in quotes"),
        ("[" * 100, "1:61", "nested more than 60 levels deep"),
    ],
)
def test_a_syntax_error_is_named_with_its_place(text: str, place: str, words: str, errors: Errors) -> None:
    (line,) = errors(text)
    assert line.startswith(f"agents.yaml:{place}: is no YAML: ")
    assert words in line


def test_what_is_no_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a: 1\nb: \xff\xfe")
    (tmp_path / "nul").write_bytes(b"a: 1\nb: \x00")
    (tmp_path / "large").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert said(tmp_path / "binary") == ["is no text in UTF-8: byte 0xff in line 2"]
    assert said(tmp_path / "nul") == ["line 2 has a character that YAML does not allow"]
    assert said(tmp_path / "large") == ["is larger than 1024 KiB"]
    assert said(tmp_path / "missing") == ["cannot be read: No such file or directory"]
    assert said(tmp_path) == ["cannot be read: Is a directory"]
    assert said(Path("a\0b")) == ["cannot be read: no such name can be"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    document = read_document(path, {})
    assert (document.data, document.problems) == ({"a": 1}, [])


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-12", -12), ("0x1F", 31), ("1.5", 1.5), (".5", 0.5), ("1.5e+3", 1500.0),
        ("'no'", "no"), ('"010"', "010"), ("2026-07-28", "2026-07-28"), ("1.2.3", "1.2.3"), ("=", "="),
        ("y", "y"), ("8080:80", "8080:80"), ("-y", "-y"), ("gpt-4.1", "gpt-4.1"), ("!!str 010", "010"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_both_versions_of_yaml_read(scalar: str, value: object, write: Write) -> None:
    document = read_document(write(f"a: {scalar}"), {})
    assert document.problems == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


@pytest.mark.parametrize(
    ("scalar", "advice"),
    [
        ("no", "write false, or 'no' in quotes"),
        ("On", "write true, or 'On' in quotes"),
        ("010", "such as 10, or '010' in quotes"),
        ("08", "such as 8, or '08' in quotes"),
        ("12:30", "or '12:30' in quotes"),
        ("1_000", "such as 1000, or '1_000' in quotes"),
        ("1e3", "such as 1000, or '1e3' in quotes"),
        ("0o17", "or '0o17' in quotes"),
        ("0b11", "or '0b11' in quotes"),
        ("9" * 5000, "a text of digits needs quotes"),
    ],
)
def test_a_scalar_that_the_versions_read_differently_is_refused(
    scalar: str, advice: str, write: Write
) -> None:
    document = read_document(write(f"a: {scalar}"), {})
    (problem,) = document.problems
    assert advice in problem.message
    assert (problem.path, problem.position.line, problem.position.column) == ("a", 1, 4)  # type: ignore[union-attr]


def test_a_key_that_is_no_text_or_stands_there_twice_is_refused(errors: Errors) -> None:
    assert errors("agents: [{name: a, model: m, on: 1}]") == [
        "agents.yaml:1:30: agents[0]: a key must be a text; put it in quotes: 'on'"
    ]
    found = errors("agents:\n- name: a\n  model: m\n  model: n\n[x]: 1\n")
    assert found == [
        "agents.yaml:4:3: agents[0].model: is given twice; the first is in line 3, column 3",
        "agents.yaml:5:1: a key must be a text, not a list or mapping",
    ]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!secret", "!!binary", "!!int"])
def test_tags_are_refused(tag: str, write: Write) -> None:
    (message,) = said(write(f"a: {tag} 'echo'"))
    assert message.endswith("there are no tags here")


def test_merged_keys_lose_to_those_of_the_mapping_and_earlier_ones_win(write: Write) -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {b: 3, <<: [*x, *y]}\nw:\n  <<: *x\n"
    document = read_document(write(text), {})
    assert document.problems == []
    assert document.data["z"] == {"a": 1, "b": 3, "c": 2}
    assert document.data["w"] == {"a": 1, "b": 1}
    assert document.position(("z", "a")).line == 1  # type: ignore[union-attr]
    assert said(write("a: {<<: 1}")) == ["<<: merges mappings only (`<<: *name`)"]


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]\n" for n in range(11)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}, *a{n}]}}\n" for n in range(15)),
        "a: &a [*a, *a]\n",
        "a: &a {<<: *a}\n",
        "a: &a {b: *a}\n",
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000)),
    ],
)  # fmt: skip
def test_aliases_cannot_blow_a_file_up(text: str, write: Write) -> None:
    (problem,) = examine(write(text)).problems
    assert problem.message.startswith("the file has more than ")
    assert problem.position is not None


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t0123456789.$<=~"))
def test_any_text_gives_data_or_problems(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    document = read_document(path, {})
    assert document.problems or document.data is None or document.values
    found = examine(path, environ={})
    assert (found.config is None) == bool(found.problems)


# At most 1,024 characters of JSON: YAML knows no longer keys of one line.
@given(st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\x1b"), max_size=80))
def test_whatever_is_escaped_comes_in_as_valid_text(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "escaped.yaml"
    path.write_text(json.dumps({f"k{text}": [text]}).replace("$", ""), encoding="utf-8")  # JSON is YAML
    document = read_document(path, {})
    assert not document.problems
    expected = valid_text(text.replace("$", ""))
    assert document.data == {f"k{expected}": [expected]}


@pytest.mark.parametrize("value", [".nan", "-.inf", "1e999", "9" * 5_000, "[" * 500 + "]" * 500])
def test_a_number_or_depth_that_nothing_holds_is_a_problem_or_a_value(value: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"agents:\n- name: a\n  model: m\n  max_turns: {value}\n", encoding="utf-8")
    assert examine(path, environ={}).problems


def test_an_environment_variable_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("agents:\n- name: a\n  model: ${MODEL}\n", encoding="utf-8")
    found = examine(path, environ={"MODEL": os.fsdecode(b"\xff")})
    assert "the environment variable MODEL is no text in UTF-8" in str(found.problems[0])
