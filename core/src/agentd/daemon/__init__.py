"""The daemon: YAML agents that wake when a resource changes."""

from __future__ import annotations
