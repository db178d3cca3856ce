"""The runner: the process that executors start where code runs, and the host's side of its pipe."""
