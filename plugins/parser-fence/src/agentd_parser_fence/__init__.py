"""agentd parser for CommonMark fences: `bash:execute`, `python:execute` and `PATH:create` blocks."""
