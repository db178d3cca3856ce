"""agentd executor `msb`: code runs in a microVM of microsandbox."""
