"""The command line: `agentd run`, `demo`, `plugins`, `completion`."""
