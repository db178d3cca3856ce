"""The runner of agentd's executors.

`agentd_runner.inside` is the process inside the sandbox (the standard library alone), `agentd_runner.artefact` is how
it gets there. `agentd_runner.reaper` is for supervisors of other things, outside of it; `agentd_runner.call_filter` is
what sandboxes refuse code. Nothing is imported here.
"""
