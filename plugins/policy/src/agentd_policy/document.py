"""A policy's YAML file as plain data, with the place of every value; and the one error that says all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError

__all__ = ["InvalidPolicyError", "Place", "PolicyDocument", "read_document"]

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_VALUES: Final = 50_000
MAX_DEPTH: Final = 20
MAX_TOLD: Final = 200
"""Problems in one message."""
_TAG: Final = "tag:yaml.org,2002:"
Place = tuple[str | int, ...]


class InvalidPolicyError(ConfigError):
    """A policy cannot be used. The message has a line for each of `problems`."""

    def __init__(self, problems: Iterable[tuple[tuple[int, ...], str]]) -> None:
        self.problems = tuple(said for _, said in sorted(problems, key=itemgetter(0)))
        more = len(self.problems) - MAX_TOLD
        super().__init__(
            "\n".join([*self.problems[:MAX_TOLD], *([f"... and {more} more problems"] if more > 0 else [])])
        )


@attrs.define
class PolicyDocument:
    """What a policy says, and what is wrong with it. Lines and columns count from 1."""

    file: str
    data: Any = None
    problems: list[tuple[tuple[int, ...], str]] = attrs.field(factory=list)
    noted: list[tuple[Place, str]] = attrs.field(factory=list)
    places: dict[Place, tuple[int, int]] = attrs.field(factory=dict)
    _unread: set[Place] = attrs.field(factory=set)

    def note_unread(self, place: Place, message: str) -> None:
        """The same for a value that was not read: nothing else is said of it."""
        self.note(place, message)
        self._unread.add(place)

    def note(self, place: Place, message: str) -> None:
        """Note a problem with a value, where it stands; of what is not there, where the one around it is."""
        if place in self._unread:
            return
        known = place
        while known and known not in self.places:
            known = known[:-1]
        where = ":".join(map(str, (self.file, *self.places.get(known, ()))))
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        said = ": ".join(filter(None, (where, path, message)))
        self.problems.append((self.places.get(known, ()), said))
        self.noted.append((place, message))


def read_document(path: Path) -> PolicyDocument:
    """Read a YAML file; raises nothing: what is wrong is in `problems`."""
    document = PolicyDocument(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            document.note((), f"is larger than {MAX_FILE_BYTES // 1024} KiB")
        else:
            _compose(content.decode("utf-8-sig"), document)
    except OSError as error:
        document.note((), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        document.note((), "is no text in UTF-8")
    except ValueError as error:
        document.note((), f"cannot be read: {error}")
    return document


def _compose(text: str, document: PolicyDocument) -> None:
    import yaml

    try:
        _check_depth(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            document.places[()] = (mark.line + 1, mark.column + 1)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        document.note((), f"is no YAML: {said}")
    except yaml.YAMLError as error:
        document.note((), f"is no YAML: {' '.join(str(error).split())}")
    else:
        if node is None:
            document.note((), "is empty")
        else:
            document.data = _PolicyBuilder(document).build(node, ())


def _check_depth(text: str) -> None:
    """Refuse what is nested too deeply before nodes are made of it, which recurses."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {MAX_DEPTH} levels deep",
                problem_mark=event.start_mark,  # type: ignore[arg-type]  # libyaml's, if it is used
            )


class _PolicyBuilder:
    """Makes plain data of nodes and notes where each value is."""

    def __init__(self, document: PolicyDocument) -> None:
        self._document = document
        self._values = 0

    def build(self, node: Any, place: Place) -> Any:
        import yaml

        self._document.places.setdefault(place, (node.start_mark.line + 1, node.start_mark.column + 1))
        self._values += 1
        if self._values > MAX_VALUES or len(place) > MAX_DEPTH:  # aliases can blow up, or hold themselves
            raise ValueError("its aliases make too much of it")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*place, number)) for number, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag.removeprefix(_TAG) not in _SCALARS:
            tag = node.tag.replace(_TAG, "!!")[:80]
            known = "is a date to YAML; put it in quotes" if tag == "!!timestamp" else ""
            self._document.note_unread(place, known or f"has the tag {tag}; there are no such tags here")
            return None
        try:
            return _scalars().construct_object(node)
        except (ValueError, yaml.YAMLError):
            self._document.note_unread(place, "cannot be read as a value; put it in quotes")
            return None

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            here = (*place, key[:80] if isinstance(key, str) else "?")
            if not isinstance(key, str) or key_node.tag != _TAG + "str":
                self._document.places.setdefault(
                    here, (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                )
                self._document.note(here, _NO_KEY.get(key_node.tag, "a key must be a text; put it in quotes"))
                continue
            here = (*place, key)
            if key in made:
                self._document.places[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                self._document.note(here, "is given twice")
                continue
            self._document.places[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            made[key] = self.build(value_node, here)
        return made


_NO_KEY: Final = {_TAG + "merge": "is a merge key, which is not read here; write out what it stands for"}
_SCALARS: Final = ("str", "int", "float", "bool", "null")


def _scalars() -> Any:
    import yaml

    return yaml.constructor.SafeConstructor()
