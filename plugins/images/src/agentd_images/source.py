"""The tool that `agentd.show` in code calls."""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from agentd._concurrency.pool import call_in_thread
from agentd.errors import ToolError, ToolInputError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost
from agentd.types import Blob, ToolSpec

from agentd_images.picture import PictureError
from agentd_images.reading import read_picture
from agentd_images.settings import Images

__all__ = ["TOOL", "PictureSource"]

TOOL: Final = "agentd_show"  # `agentd_skills.sandbox.show` calls it by this name
SPEC: Final = ToolSpec(
    name=TOOL,
    source="pictures",
    description="Look at pictures: `import agentd; agentd.show(x)`, where x is a path, bytes, a Pillow image or a "
    "matplotlib figure (in bash: `skills show FILE`). You see it when the block is over. This function takes "
    "the bytes of a PNG, JPEG, GIF or WebP file as base64.",
    input_schema={
        "type": "object",
        "properties": {
            "data": {"type": "string", "description": "the file's bytes as base64"},
            "name": {"type": "string", "description": "what to call it"},
        },
        "required": ["data"],
        "additionalProperties": False,
    },
    annotations={"readOnlyHint": True},  # so a policy that lets code read lets it show
)


class PictureSource:
    """A tool source with one tool. Its result is the picture, which never reaches the code: see `SessionPictures`.

    :param used: called when a session's code is going to have the tool.
    :param has_room: tells whether one more picture would be shown.
    :param end: awaited at the session's end.
    """

    name = "pictures"

    def __init__(
        self,
        images: Images,
        used: Callable[[], None],
        has_room: Callable[[], bool],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self._images = images
        self._end = end
        self._used = used
        self._has_room = has_room

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return the tool."""
        self._used()
        return [SPEC]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Return the picture, checked and scaled, as a `Blob`. Raises `ToolError` for what is none."""
        if name != TOOL:
            raise UnknownToolError(name, [TOOL])
        return await call_in_thread(partial(self._read, arguments)) if self._has_room() else None

    def _read(self, arguments: Mapping[str, Any]) -> Blob:
        data, name = arguments["data"], arguments.get("name") or "picture"
        if not isinstance(data, str) or not isinstance(name, str):
            raise ToolInputError(f"{TOOL}(): data and name must be texts")
        try:
            picture = read_picture(binascii.a2b_base64(data, strict_mode=True), name, self._images)
        except (PictureError, binascii.Error, ValueError) as error:
            raise ToolError(f"the picture cannot be shown: {error}") from None
        return Blob(picture.data, picture.mime_type, picture.name)

    async def aclose(self) -> None:
        """The session is over."""
        await self._end()
