"""Between threads and event loops: calling in a thread, waiting across loops, channels. For agentd's own use."""
