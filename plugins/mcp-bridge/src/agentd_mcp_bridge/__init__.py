"""agentd tool source `mcp`: MCP servers as Python functions."""
