"""agentd as an OpenAI-compatible endpoint: `agentd serve`."""
