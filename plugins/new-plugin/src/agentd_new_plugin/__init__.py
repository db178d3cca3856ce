"""`agentd new-plugin`: writes the project of a plugin from a template."""
