"""Between threads and event loops, one mechanism each, for agentd's own use.

`pool` calls in a thread, `waiting` calls into a loop, waits and locks across loops, `channel` is a queue between tasks
and threads, `portal` is the loop of synchronous callers, `owner` a group of tasks that any task may open and close.
"""
