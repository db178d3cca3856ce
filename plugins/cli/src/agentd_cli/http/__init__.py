"""An HTTP server with bounds: what `agentd serve`, `agentd mcp --http` and triggers that listen have in common."""
