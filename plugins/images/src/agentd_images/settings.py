"""`Images`: which pictures a session's model is shown, how many, and how large."""

from __future__ import annotations

import attrs
from agentd.errors import ConfigError

__all__ = ["Images"]


def _above_zero(images: Images, attribute: attrs.Attribute[int], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"Images.{attribute.name}: must be a whole number above 0, got {value!r}")


def _bool_or_none(images: Images, attribute: attrs.Attribute[bool | None], value: object) -> None:
    if not isinstance(value, bool | None):
        raise ConfigError(f"Images.{attribute.name}: must be True, False or None, got {value!r}")


@attrs.frozen(kw_only=True)
class Images:
    """How a session shows its model pictures: those of the task, of `agentd.show(...)` in code, and of tools.

    :param sees: whether the model can see. None for what LiteLLM's table says, if it is installed, then agentd's own,
        else yes: a provider that refuses a request with new pictures is asked once more without any.
    :param max_pictures: after one answer of the model, from all its blocks and calls; further ones are counted and
        left out.
    :param max_side_px: the longer side of what is sent; a larger picture is scaled down.
    :param max_bytes: of one picture that is sent, before base64.
    :param max_file_mib: a larger file is refused, unread.
    :param max_megapixels: a picture with more is refused before it is decoded.
    :param max_remembered: pictures in the conversation; of more, the older half becomes text.
    :param max_kept: files of pictures in the workspace's folder, and `max_kept_mib` their size: when a session ends and
        no other one has pictures there, those that were shown the longest ago go, but for what checkpoints refer to.
    :raises ConfigError: for a number that is none, or not above 0.
    """

    sees: bool | None = attrs.field(default=None, validator=_bool_or_none)
    max_pictures: int = attrs.field(default=8, validator=_above_zero)
    max_side_px: int = attrs.field(default=1568, validator=_above_zero)  # what Anthropic scales to, July 2025
    max_bytes: int = attrs.field(default=1_500_000, validator=_above_zero)
    max_file_mib: int = attrs.field(default=20, validator=_above_zero)
    max_megapixels: int = attrs.field(default=64, validator=_above_zero)
    max_remembered: int = attrs.field(default=24, validator=_above_zero)
    max_kept: int = attrs.field(default=1_000, validator=_above_zero)
    max_kept_mib: int = attrs.field(default=512, validator=_above_zero)
