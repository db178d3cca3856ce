"""agentd against agentd 0.8.6 and against what the operating system allows, in one run."""
