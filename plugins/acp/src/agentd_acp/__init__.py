"""agentd as an agent of the Agent Client Protocol: `agentd acp`."""
