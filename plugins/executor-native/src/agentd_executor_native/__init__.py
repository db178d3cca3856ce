"""agentd executor `native`: code runs in a sandbox of the Linux kernel's own means."""
