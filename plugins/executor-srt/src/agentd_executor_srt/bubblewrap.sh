#!/usr/bin/env bash
# Takes the place of bubblewrap for srt (its setting `bwrapPath`), and runs the real one with what srt leaves out.
#
# AGENTD_BWRAP: the path of the real one.
#
# An IPC namespace: System V shared memory, queues and semaphores of the host are not seen, and those of the sandbox
# end with it.
real=$AGENTD_BWRAP
unset AGENTD_BWRAP
exec "$real" --unshare-ipc "$@"
