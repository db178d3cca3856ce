"""Files that the renderer copies into the skills directory. Nothing here imports agentd, or runs on the host."""
