"""The runner of agentd's executors.

`agentd_runner.inside` is the process inside the sandbox (the standard library alone), `agentd_runner.artefact` is how
it gets there. Nothing is imported here.
"""
