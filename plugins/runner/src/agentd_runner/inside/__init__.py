"""The runner: the process inside the sandbox that runs actions for the host at the other end of a pipe.

This package uses the standard library alone, because executors ship it into places where nothing else is
installed; there it is called `_agentd_runner` (`agentd_runner.artefact` says how it gets there). The host starts it
wherever it likes and speaks *frames* with it over the runner's standard input and output (`frames`). Nothing else
connects the two: no port, no file, no signal. Only a runner that is a plain child process may inherit a *direct
line* as well, over which it passes the sockets that code calls tools with on to the host.

Words
    action      what the host has asked for: a bash block, a Python block, a file to create
    runner      the process of `loop.Runner`: joins host, workers and tool calls in one loop around poll(2)
    worker      the process that an action's code runs in: a bash (`shell`) or a Python (`python`)
    supervisor  the parent of a worker (`supervisor`): it adopts whatever the action leaves behind and kills it. One
                that has seen an action to its end, and has nothing left below it, starts the worker of a later one
    spawner     the process that forks supervisors (`spawner`): a copy of the runner with everything imported
    pool        the workers and supervisors that no action has (`worker_pool`)
    spare       a worker of the pool, made ahead: the Python is warmed up, the bash has started and waits
    idle        a supervisor of the pool without a worker
    warm-up     what a Python worker does before it has an action, so that the first block finds it done
    gate        the pipe at which a spare bash waits for the byte that lets it begin
    broker      a worker's socket to the runner: a Python worker gets its block over it, and the code's threads
                ask over it for channels ("C"; "M" for one of a kept interpreter that ends with the block)
    channel     a socket over which one thread of the code calls tools, one after the other
    job         a bash whose supervisor lets it live when its block was answered (`jobs`): until it ends, with all its
                processes, is ended, or the session is. Code asks about jobs with the program `programs/job`
    kept        a Python interpreter that runs one block after the other in one namespace (`kept_python`)
    fork server with the argument `--serve`: no runner yet, but a process that forks runners for a host that has
                several (`fork_server`)

Processes
    host == pipe == runner --- spawner -+- supervisor --- worker (own session) --- what the code starts
                                        +- supervisor --- worker ...

    An action costs a message, and neither a fork nor the page faults and the start of a shell behind it: its worker
    is there already. A process that forks pays for each page that it touches afterwards, and the runner's loop
    must not: so the spawner forks. Every process has a single thread (a fork copies only one).

Modules, each of which imports only those above it
    primitives, frames, timings, descriptors, processes, limits, files, disk_usage
    shipped     modules whose text comes from the host
    startup     what every Python that code starts runs first
    setup       what forked code needs: workspace, environment, limits
    poller      what sockets and outputs need: watch, unwatch, send
    main_module what processes that code starts afresh find as `__main__`
    open_files  what files that code has left open still hold
    python_end  exit codes, tracebacks, and what is done when a block has ended
    supervisor, shell_state, shell, warm_imports, python, spawner
    workers, warm_python, worker_pool, output, action, tool_calls, http_calls, kept_python, actions
    job_output, jobs, job_requests, limit_watch
    loop, fork_server, __main__
"""
