"""agentd beside other ways to let a model's code act, each in an environment of its own, interleaved in one run."""
