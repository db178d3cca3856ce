"""What installed distributions say of themselves: importlib-metadata where it is installed, else the standard library.

agentd-cli brings importlib-metadata, whose fixes for broken metadata come years before those of an old Python. The
core itself does without: it brings two more distributions along.
"""

from __future__ import annotations

try:
    from importlib_metadata import EntryPoint, MetadataPathFinder, distributions
except ImportError:
    from importlib.metadata import EntryPoint, MetadataPathFinder, distributions  # type: ignore[assignment]

__all__ = ["EntryPoint", "MetadataPathFinder", "distributions"]
