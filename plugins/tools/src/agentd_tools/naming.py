"""Python names for tools: every tool gets one identifier, unique within a session.

The rule: a tool keeps its name, changed only as far as Python demands. When two tools would share one, the
earlier keeps it (functions come before sources) and the later is called `SOURCE_NAME`; if that is taken
too, or both come from one source, a number follows. Adding tools at the end renames none of the earlier.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from agentd.types import Binding, ToolSpec

__all__ = ["Binding", "bind", "identifier"]

_MAX_BYTES: Final = 120  # names become file names too: 255 bytes with a suffix
_NO_WORD: Final = re.compile(r"\W")

RESERVED: Final = frozenset(
    {name for name in dir(builtins) if not name.startswith("_")}
    | {"ToolError", "ToolInputError", "ToolTimeoutError", "UnknownToolError", "TYPE_CHECKING"}
)
"""Names that `from lib.tools import *` must not shadow, and the ones that the generated module uses."""


def identifier(text: str, *, fallback: str = "tool", reserved: Iterable[str] = ()) -> str:
    """Turn any string into a Python identifier; an identifier stays as it is where it can.

    Text is put into Unicode form NFKC, as Python does with names. What no identifier may hold becomes `_`;
    a leading digit gets `fallback_` in front; leading underscores go (they are the module's own);
    keywords and `reserved` words get a `_` behind; long names are cut and get a hash of the whole.
    """
    name = _NO_WORD.sub("_", unicodedata.normalize("NFKC", text)).lstrip("_")
    if not name.strip("_"):
        name = fallback
    if not name.isidentifier():  # a digit in front, or a word character that Python has no use for
        name = f"{fallback}_{name}"
    if not name.isidentifier():
        name = "".join(c if f"a{c}".isidentifier() else "_" for c in name)
    if len(name.encode()) > _MAX_BYTES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name.encode()[: _MAX_BYTES - 9].decode('utf-8', 'ignore')}_{digest}"
    if keyword.iskeyword(name) or name in reserved:
        name += "_"
    return name


def bind(specs: Sequence[ToolSpec]) -> tuple[Binding, ...]:
    """Give every tool its Python name. The same tools in the same order get the same names.

    Renderers call this with `ToolSet.specs()`, whole and in order; the tool set does the same, so that
    the name in the generated code is the name that the host knows.
    """
    taken: dict[str, str] = {}
    numbers: dict[str, int] = {}
    bindings = []
    for spec in specs:
        name = _free_name(spec, taken, numbers)
        taken[name] = spec.source
        bindings.append(Binding(python_name=name, spec=spec))
    return tuple(bindings)


def _free_name(spec: ToolSpec, taken: dict[str, str], numbers: dict[str, int]) -> str:
    name = identifier(spec.name, reserved=RESERVED)
    if name not in taken:
        return name
    if taken[name] != spec.source:
        source = identifier(spec.source, fallback="source")
        name = identifier(f"{source}_{name}", reserved=RESERVED)
        if name not in taken:
            return name
    stem = name.rstrip("_") or "tool"
    number = numbers.get(stem, 1)
    while name in taken:
        number += 1
        name = identifier(f"{stem}_{number}")
    numbers[stem] = number
    return name
