"""The daemon: agents that are set up in YAML and wake when a resource changes."""
