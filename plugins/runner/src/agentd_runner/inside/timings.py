"""How long the runner waits for what: spare workers, its own sleep, its looks at the clocks, a supervisor's end."""

from __future__ import annotations

JOB_GRACE_S = 0.3  # how long a block waits for the end of a job that it has started: most faults show by then
JOB_END_S = 0.5  # beyond the grace, how long the end of jobs may take with the session's
JOB_REST_S = (
    0.01  # how long a job's pipe is not read when all that comes is left out: so it costs no processor
)
PAUSE_S = 0.002  # a shorter time between two actions is none
REFILL_S = 0.05  # how long after an action's start its spare is replaced, unless it ends before
SPARE_IDLE_S = 10.0  # how long after the last action a worker is kept ready, unless the host says less
WARM_TIMES = 6  # how many times as long a process is kept that has imported modules: to make one takes long
SPARE_LEAST_S = 1.0  # a worker that would be kept ready for less than this is not made
SPIN_S = 80e-6  # how long after an answer the next tool call is looked for without sleeping
LOOK_S = 0.005  # how often the clocks are looked at while there is much to do
CLOCK_S = 1.0  # how long the host may take to say for how long an action has waited for tools
WAITING_S = 0.2  # how often it is asked while an action does so, its time being up
IMPORTS_S = (
    1.0  # how long a session's end waits for what is being imported ahead: whether it can be is to be told
)
KILL_MARGIN_S = 3.0  # beyond the grace, how long a supervisor may take before the runner acts itself
POOL_END_S = 2.0  # how long all workers may take to end with the session before they are killed
