"""The text of `lib/tools.py`: one typed function for each tool.

Annotations are never evaluated, and the classes that they mention stand below `TYPE_CHECKING`, so that
importing the module costs the functions alone. That is some 80 microseconds for each, so where there are
many tools their source stands in modules beside it, and `lib/tools.py` compiles a function when its name is
asked for: no block pays for the functions that it does not use. `lib/tools.pyi` tells type checkers what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentd_tools.naming import RESERVED, Binding

from agentd_skills.annotations import Scope
from agentd_skills.signatures import OMITTED, Parameter, Signature, signature_of
from agentd_skills.texts import docstring, one_line

__all__ = ["index_module", "index_stub", "part_module", "tools_module"]

_HEAD: Final = '''\
# mypy: ignore-errors
# pyright: reportArgumentType=false
"""The tools as Python functions. Written by agentd; changes are overwritten.

    from lib.tools import NAME

A failing tool raises ToolError; ToolInputError (wrong arguments), ToolTimeoutError and UnknownToolError are
kinds of it. Only the arguments that you give are sent: an optional parameter (`= ...`) is left out of the call, and
the tool then uses its own default.
"""

from __future__ import annotations

from ._bridge import ToolDeniedError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from ._bridge import call as _call, call_given as _call_given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NotRequired, TypedDict
'''

_INDEX: Final = '''\
"""The tools as Python functions. Written by agentd; changes are overwritten.

    from lib.tools import NAME

Their source is in the modules named below; a function is compiled when its name is first asked for. A failing
tool raises ToolError; ToolInputError (wrong arguments), ToolTimeoutError and UnknownToolError are kinds of it.
Only the arguments that you give are sent: an optional parameter (`= ...`) is left out of the call, and the tool
then uses its own default.
"""

from __future__ import annotations

import os as _os

from ._bridge import ToolDeniedError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from ._bridge import call as _call, call_given as _call_given

_MODULES = {
@MODULES@}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
_sources = {}

__all__ = ["ToolDeniedError", "ToolError", "ToolInputError", "ToolTimeoutError", "UnknownToolError", *_HOME]


def __getattr__(name):
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no tool {name!r}; find tools with `skills search WORDS`")
    path = _os.path.join(_os.path.dirname(__file__), home + ".py")
    if home not in _sources:
        with open(path, encoding="utf-8") as file:
            _sources[home] = file.read()
    head, found, rest = _sources[home].partition(f"\\ndef {name}(")
    if not found:
        raise ImportError(f"the tools have changed and {name!r} is no longer where it was; run this again")
    blank = "\\n" * head.count("\\n")  # so that tracebacks show the right line
    exec(compile(blank + found + rest.partition("\\ndef ")[0], path, "exec"), globals())
    return globals()[name]


def __dir__():
    return sorted({*globals(), *_HOME})
'''
_STUB_HEAD: Final = """\
# mypy: ignore-errors
from ._bridge import ToolDeniedError as ToolDeniedError, ToolError as ToolError
from ._bridge import ToolInputError as ToolInputError
from ._bridge import ToolTimeoutError as ToolTimeoutError, UnknownToolError as UnknownToolError
"""

_TYPING_NAMES: Final = {"Any", "Literal", "NotRequired", "TypedDict"}
_DESCRIPTION_CHARS: Final = 8000


def index_module(parts: Mapping[str, Sequence[str]]) -> str:
    """Return the `lib/tools.py` that finds tools in other modules.

    :param parts: module name -> the tools in it, by their Python names.
    """
    lines = (f"    {module!r}: {' '.join(names)!r},\n" for module, names in parts.items())
    return _INDEX.replace("@MODULES@", "".join(lines))


def index_stub(parts: Mapping[str, Sequence[str]]) -> str:
    """Return the `lib/tools.pyi` for the same."""
    lines = (f"from .{module} import {name} as {name}\n" for module, names in parts.items() for name in names)
    return _STUB_HEAD + "".join(lines)


def part_module(folder: str) -> str:
    """Return the name of the module that a skill's functions are in where there are many."""
    return f"_tools_{folder.replace('-', '_')}"  # a folder has no underscores: no two get the same


def tools_module(bindings: Sequence[Binding]) -> str:
    """Return a module's source for these tools."""
    scope = Scope({b.python_name for b in bindings} | RESERVED | _TYPING_NAMES)
    signatures = [signature_of(b, scope) for b in bindings]
    declarations = [d for s in signatures for d in s.declarations]
    parts = [_HEAD]
    parts += [_indented(d) for d in declarations]
    parts.append(_all(bindings))
    parts += [_function(b, s) for b, s in zip(bindings, signatures, strict=True)]
    return "\n\n".join(p.rstrip("\n") for p in parts) + "\n"


def _all(bindings: Sequence[Binding]) -> str:
    errors = ["ToolDeniedError", "ToolError", "ToolInputError", "ToolTimeoutError", "UnknownToolError"]
    names = "".join(f"    {name!r},\n" for name in [*errors, *(b.python_name for b in bindings)])
    return f"__all__ = [\n{names}]"


def _function(binding: Binding, signature: Signature) -> str:
    pairs = ", ".join(f"{p.wire!r}: {p.name}" for p in signature.parameters)
    if signature.extra is not None:
        pairs = f"{pairs}, **{signature.extra_name}" if pairs else f"**{signature.extra_name}"
    call = "_call" if all(p.default is None for p in signature.parameters) else "_call_given"
    return (
        f"\ndef {signature.binding()}:\n"
        f"    {docstring(_documentation(binding, signature))}\n"
        f"    return {call}({binding.python_name!r}, {{{pairs}}})"
    )


def _documentation(binding: Binding, signature: Signature) -> str:
    spec = binding.spec
    text = spec.description[:_DESCRIPTION_CHARS].strip()
    if len(spec.description) > _DESCRIPTION_CHARS:
        text += f" ... ({len(spec.description) - _DESCRIPTION_CHARS} more characters)"
    text = text or f"Call the tool {one_line(spec.name, 200)} of {one_line(spec.source, 200)}."
    described = [
        _parameter_line(p) for p in signature.parameters if p.text or p.name != p.wire or _has_default(p)
    ]
    if described:
        text += "\n\nArgs:\n" + "\n".join(described)
    return text


def _has_default(parameter: Parameter) -> bool:
    return parameter.default not in (None, OMITTED)


def _parameter_line(parameter: Parameter) -> str:
    notes = [one_line(parameter.text, 500)] if parameter.text else []
    if parameter.name != parameter.wire:
        notes.append(f"(the tool's {one_line(parameter.wire, 100)!r})")
    if _has_default(parameter):
        notes.append(f"(default: {parameter.default})")
    return f"    {parameter.name}: {' '.join(notes)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
