"""Which models can see: LiteLLM's table, if it is installed, then a small one of our own."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

__all__ = ["can_see"]

_TABLE: Final = "model_prices_and_context_window_backup.json"

# By the providers' model pages, August 2025. The first that is found decides.
_BLIND: Final = re.compile(
    r"gpt-3\.5|gpt-4(-0\d{3}|-32k.*)?$|gpt-oss|o1-mini|o1-preview|o3-mini|deepseek-(?!vl|ocr)|codestral|mixtral|"
    r"coder|llama-?3\.[13]|llama-?[12]|gemma-?2|phi-?3(?!.*vision)|command-r|claude-[12]|claude-instant|kimi-k2$"
)
_SEES: Final = re.compile(
    r"gpt-4o|gpt-4\.|gpt-4-turbo|gpt-[5-9]|chatgpt|^o[134]|claude|gemini|gemma-?3|llava|pixtral|mistral-(small|medium)|"
    r"vl\b|-vl-|vision|llama-?4|grok-[4-9]|glm-4.*v|minicpm-v|moondream|multimodal|omni"
)


def can_see(model: str) -> bool:
    """Tell whether a model can see, by its name. One that nobody knows is taken to see: its provider says if not."""
    name = model.lower()
    bare = name.rpartition("/")[2]
    known = _of_litellm(name, bare)
    if known:
        return True
    if _BLIND.search(bare):
        return False
    return bool(_SEES.search(bare)) or known is None


def _of_litellm(*names: str) -> bool | None:
    """Return what LiteLLM's table says: None if it does not know the model, or is not there."""
    table = _litellm_table()
    entry = next((table[name] for name in names if name in table), None)
    return None if entry is None else bool(entry.get("supports_vision"))


@cache
def _litellm_table() -> dict[str, Any]:
    """Read the table as a file: to import LiteLLM takes seconds."""
    try:
        spec = find_spec("litellm")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        table = json.loads((Path(folders[0]) / _TABLE).read_bytes()) if folders else {}
    except (OSError, ValueError, ImportError):  # another release of LiteLLM, half installed, ...
        return {}
    return (
        {str(k).lower(): v for k, v in table.items() if isinstance(v, dict)}
        if isinstance(table, dict)
        else {}
    )
