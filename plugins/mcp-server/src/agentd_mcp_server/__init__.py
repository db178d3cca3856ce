"""agentd as an MCP server: `agentd mcp`."""
