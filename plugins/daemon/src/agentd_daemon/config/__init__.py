"""The configuration of the daemon: YAML files to values, every mistake with its place."""

from __future__ import annotations
