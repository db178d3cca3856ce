#!/bin/sh
# Takes the place of bubblewrap for srt (its setting `bwrapPath`), and runs the real one with what srt leaves out.
#
# AGENTD_BWRAP: the path of the real one.
# AGENTD_ACCOUNTS: a folder with the files `passwd` and `group` that the sandbox shall see, if it is there.
#
# An IPC namespace: System V shared memory, queues and semaphores of the host are not seen, and those of the sandbox
# end with it.
#
# In the language of every sh: a small one starts in half of bash's time, and srt calls this twice.
real=$AGENTD_BWRAP
accounts=$AGENTD_ACCOUNTS
unset AGENTD_BWRAP AGENTD_ACCOUNTS

if [ ! -f "$accounts/passwd" ] || [ ! -f "$accounts/group" ]; then
    exec "$real" --unshare-ipc "$@"
fi

# Mounts come after those of srt, which cover what is before them, and before `--` and the command.
mounts='--ro-bind "$accounts/passwd" /etc/passwd --ro-bind "$accounts/group" /etc/group'
words=
at=0
for argument do
    at=$((at + 1))
    if [ "$argument" = -- ]; then
        words="$words $mounts"
        mounts=
    fi
    words="$words \"\${$at}\""
done
eval "exec \"\$real\" --unshare-ipc $words"
