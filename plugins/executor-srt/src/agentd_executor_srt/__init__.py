"""agentd executor `srt`: code runs in Anthropic's sandbox-runtime, one sandbox for a session."""
