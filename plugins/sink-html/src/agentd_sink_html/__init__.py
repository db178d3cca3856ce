"""The event sink `html` and the command `agentd trace`."""
