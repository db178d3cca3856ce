"""A YAML file as plain data, with the position of every value; everything wrong is noted, nothing guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd.text import valid_text

from agentd_daemon.config.problems import Position, Problem
from agentd_daemon.config.references import BadReferenceError, ConfigReferences, Substituted
from agentd_daemon.config.scalars import BadScalarError, read_plain
from agentd_daemon.config.structuring import DataPath, dotted

if TYPE_CHECKING:
    from yaml import Node
    from yaml.error import Mark

__all__ = ["Document", "read_document"]

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_VALUES: Final = 50_000
"""Values of one file, those behind aliases counted each time that they are used."""
MAX_DEPTH: Final = 60

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"


class _Stop(Exception):
    """The file as a whole cannot be used."""


@attrs.define(kw_only=True)
class Document:
    """One file.

    :ivar file: its name, as in errors.
    :ivar data: what it says; None if it could not be read, or says nothing.
    :ivar problems: what is wrong with it as YAML.
    :ivar values: the position of each value, by its path.
    :ivar keys: the position of each key, by the path of its value.
    :ivar broken: the paths of values that have a problem already.
    :ivar references: the texts that came from references, by path.
    """

    file: str
    data: Any = None
    problems: list[Problem] = attrs.field(factory=list)
    values: dict[DataPath, Position] = attrs.field(factory=dict)
    keys: dict[DataPath, Position] = attrs.field(factory=dict)
    broken: set[DataPath] = attrs.field(factory=set)
    references: dict[DataPath, Substituted] = attrs.field(factory=dict, repr=False)

    def position(self, path: DataPath, *, key: bool = False) -> Position | None:
        """Return where a value (or its key) is written; of what is not there, where its parent is."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path)

    def problem(self, path: DataPath, message: str, *, key: bool = False) -> Problem:
        """Return a problem with the value at `path`."""
        return Problem(
            file=self.file, position=self.position(path, key=key), path=dotted(path), message=message
        )


def read_document(file: str | Path, environ: Mapping[str, str]) -> Document:
    """Read a YAML file; raises nothing, what is wrong is in `problems`."""
    document = Document(file=str(file))
    try:
        text = _read_text(Path(file))
        node = _compose(text, document)
        if node is not None:
            folder = Path(file).absolute().parent
            document.data = _Builder(document, ConfigReferences(environ, folder)).build(node, ())
    except _Stop as stop:
        document.data = None
        if stop.args:
            document.problems.append(Problem(file=document.file, message=str(stop)))
    return document


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _Stop(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _Stop("cannot be read: no such name can be") from None
    if len(content) > MAX_FILE_BYTES:
        raise _Stop(f"is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Stop(f"is no text in UTF-8: byte {content[error.start]:#04x} in line {line}") from None


# --- YAML's nodes ------------------------------------------------------------------------------


@cache
def _composer() -> Any:
    import yaml

    class Composer(yaml.SafeLoader):
        """Composes nodes to a limited depth, and tells plain scalars from others."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                event: Any = self.peek_event()  # type: ignore[no-untyped-call]
                raise yaml.MarkedYAMLError(
                    problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark
                )
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

        def compose_scalar_node(self, anchor: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            node: Any = super().compose_scalar_node(anchor)
            node.plain = event.implicit[0]
            return node

    return Composer


def _compose(text: str, document: Document) -> Node | None:
    """Return the root node, or None for a file that says nothing."""
    import yaml

    loader: Any = None
    try:
        loader = _composer()(text)
        node: Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Stop(f"line {line} has a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _position(document.file, mark) if mark is not None else None
        message = f"is no YAML: {_syntax(error, text, mark)}"
        document.problems.append(Problem(file=document.file, position=position, message=message))
        raise _Stop from None
    except (ValueError, OverflowError):  # `"\U99999999"`: beyond what Unicode has
        raise _Stop("is no YAML: an escape names no character") from None
    finally:
        if loader is not None:
            loader.dispose()
    return node


def _syntax(error: Any, text: str, mark: Mark | None) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "'\\t'" in said:
        return f"{said}; YAML indents with spaces"
    if "${" in line and ("[" in line or "{" in line.replace("${", "")):
        return f"{said}; inside of [ ] and {{ }}, put a text with ${{...}} in quotes"
    if "mapping values are not allowed" in said:
        return f"{said}; put a text that has a colon in quotes"
    if "expected a single document" in said:
        return "there is a second document after '---'; give each a file of its own"
    return said


def _position(file: str, mark: Mark) -> Position:
    return Position(file, mark.line + 1, mark.column + 1)


# --- nodes to data -----------------------------------------------------------------------------


class _Builder:
    """Makes plain data of nodes and notes where each value is."""

    def __init__(self, document: Document, references: ConfigReferences) -> None:
        self._document = document
        self._references = references
        self._count = 0

    def build(self, node: Node, path: DataPath) -> Any:
        import yaml

        self._spend(node, len(path))
        self._document.values[path] = _position(self._document.file, node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._note(path, f"has the tag {_short(node.tag)}; there are no tags here")
        return None

    def _spend(self, node: Node, depth: int) -> None:
        """Bound what aliases can blow up; an alias of itself ends here, too."""
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            what = f"more than {MAX_VALUES} values" if depth <= MAX_DEPTH else f"more than {MAX_DEPTH} levels"
            self._document.problems.append(
                Problem(
                    file=self._document.file,
                    position=_position(self._document.file, node.start_mark),
                    message=f"the file has {what}, what aliases repeat counted in; make several files of it",
                )
            )
            raise _Stop

    def _note(self, path: DataPath, message: str) -> None:
        self._document.problems.append(self._document.problem(path, message))
        self._document.broken.add(path)

    def _scalar(self, node: Any, path: DataPath) -> Any:
        try:
            if node.plain:
                value = read_plain(node.value, node.tag.removeprefix(_TAG))
            elif node.tag == _TAG + "str":
                value = valid_text(node.value)  # "\ud83d\ude00" is what JSON writes for one character
            else:
                raise BadScalarError(f"has the tag {_short(node.tag)}; there are no tags here")
            if isinstance(value, str):
                value = self._references.resolve(value)
        except (BadScalarError, BadReferenceError) as error:
            self._note(path, str(error))
            return None
        if isinstance(value, Substituted):
            self._document.references[path] = value
        return value

    def _mapping(self, node: Any, path: DataPath) -> dict[str, Any]:
        made: dict[str, Any] = {}
        own: set[str] = set()
        for key_node, value_node, merged in self._pairs(node, path, len(path)):
            key = self._key(key_node, path)
            if key is None or (merged and key in made):
                continue
            place = (*path, key)
            if key in own:
                first = self._document.keys[place]
                self._note_at(
                    key_node,
                    place,
                    f"is given twice; the first is in line {first.line}, column {first.column}",
                )
                continue
            if not merged:
                own.add(key)
            self._document.keys[place] = _position(self._document.file, key_node.start_mark)
            made[key] = self.build(value_node, place)
        return made

    def _note_at(self, node: Node, path: DataPath, message: str) -> None:
        position = _position(self._document.file, node.start_mark)
        self._document.problems.append(
            Problem(file=self._document.file, position=position, path=dotted(path), message=message)
        )

    def _pairs(self, node: Any, path: DataPath, depth: int) -> Iterator[tuple[Any, Any, bool]]:
        """Yield keys and values: the mapping's own first, then those that `<<` merges, which lose to them."""
        import yaml

        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                yield key_node, value_node, False
            elif isinstance(value_node, yaml.SequenceNode):
                merged += value_node.value
            else:
                merged.append(value_node)
        for other in merged:
            self._spend(other, depth + 1)
            if isinstance(other, yaml.MappingNode):
                for key_node, value_node, _ in self._pairs(other, path, depth + 1):
                    yield key_node, value_node, True
            else:
                self._note_at(other, path, "<<: merges mappings only (`<<: *name`)")

    def _key(self, node: Any, path: DataPath) -> str | None:
        import yaml

        self._spend(node, 0)
        if not isinstance(node, yaml.ScalarNode):
            self._note_at(node, path, "a key must be a text, not a list or mapping")
        elif node.tag == _TAG + "str":
            return valid_text(node.value)
        else:
            self._note_at(node, path, f"a key must be a text; put it in quotes: '{node.value}'")
        return None


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")[:80]
