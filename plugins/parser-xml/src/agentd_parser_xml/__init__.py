"""agentd parser for XML function calls, `<invoke name="bash:execute">`, which some models write."""
