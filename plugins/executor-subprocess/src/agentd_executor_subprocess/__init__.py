"""agentd executor `subprocess`: code runs as plain child processes. No sandbox."""
