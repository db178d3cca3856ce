"""Configuration files, `agentd.toml`: the user's and a project's, whose author may be anybody.

Imports point down: `command` · `resolved` · `trust`, `stricter` · `file` · `keys`.
"""
