"""The daemon: agents that are set up in YAML and wake when a resource changes."""

from __future__ import annotations
