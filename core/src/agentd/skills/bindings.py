"""The text of `lib/tools.py`: one typed function for each tool.

Annotations are never evaluated, and the classes that they mention stand below `TYPE_CHECKING`, so that
importing the module costs the functions alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentd.skills.annotations import Scope
from agentd.skills.signatures import OMITTED, Parameter, Signature, signature_of
from agentd.skills.texts import docstring, one_line
from agentd.tools.naming import RESERVED, Binding

__all__ = ["tools_module"]

_HEAD = '''\
# mypy: ignore-errors
# pyright: reportArgumentType=false
"""The tools as Python functions. Written by agentd; changes are overwritten.

    from lib.tools import NAME

A failing tool raises ToolError; ToolInputError (wrong arguments), ToolTimeoutError and UnknownToolError are
kinds of it. An optional parameter with the default `...` is left out of the call.
"""

from __future__ import annotations

from ._bridge import ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from ._bridge import call as _call, call_given as _call_given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NotRequired, TypedDict
'''

_TYPING_NAMES = {"Any", "Literal", "NotRequired", "TypedDict"}


def tools_module(bindings: Sequence[Binding]) -> str:
    """Return the module's source for these tools."""
    scope = Scope({b.python_name for b in bindings} | RESERVED | _TYPING_NAMES)
    signatures = [signature_of(b, scope) for b in bindings]
    declarations = [d for s in signatures for d in s.declarations]
    parts = [_HEAD]
    parts += [_indented(d) for d in declarations]
    parts.append(_all(bindings))
    parts += [_function(b, s) for b, s in zip(bindings, signatures, strict=True)]
    return "\n\n".join(p.rstrip("\n") for p in parts) + "\n"


def _all(bindings: Sequence[Binding]) -> str:
    errors = ["ToolError", "ToolInputError", "ToolTimeoutError", "UnknownToolError"]
    names = "".join(f"    {name!r},\n" for name in [*errors, *(b.python_name for b in bindings)])
    return f"__all__ = [\n{names}]"


def _function(binding: Binding, signature: Signature) -> str:
    pairs = ", ".join(f"{p.wire!r}: {p.name}" for p in signature.parameters)
    if signature.extra is not None:
        pairs = f"{pairs}, **{signature.extra_name}" if pairs else f"**{signature.extra_name}"
    gaps = any(p.default == OMITTED for p in signature.parameters)
    call = "_call_given" if gaps else "_call"
    return (
        f"\ndef {signature.source()}:\n"
        f"    {docstring(_documentation(binding, signature))}\n"
        f"    return {call}({binding.python_name!r}, {{{pairs}}})"
    )


def _documentation(binding: Binding, signature: Signature) -> str:
    spec = binding.spec
    text = spec.description.strip() or f"Call the tool {spec.name} of {spec.source}."
    described = [_parameter_line(p) for p in signature.parameters if p.text or p.name != p.wire]
    if described:
        text += "\n\nArgs:\n" + "\n".join(described)
    return text


def _parameter_line(parameter: Parameter) -> str:
    note = "" if parameter.name == parameter.wire else f" (the tool's {one_line(parameter.wire, 100)!r})"
    return f"    {parameter.name}: {one_line(parameter.text, 500)}{note}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
