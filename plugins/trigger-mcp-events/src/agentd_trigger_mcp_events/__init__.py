"""The trigger `mcp-events`: wakes an agent of the daemon by MCP Events of one of its servers. Experimental."""
