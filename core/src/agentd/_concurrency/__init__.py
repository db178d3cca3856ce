"""Between threads and event loops, one mechanism each, for agentd's own use.

`pool` calls in a thread, `waiting` waits across loops, `channel` is a queue between tasks and threads, `backoff`
waits longer and longer, `cross_lock` is a lock for several loops, `portal` the loop of synchronous callers,
`eventloop` the way from a thread into a loop, which all of them use.
"""
