#!/usr/bin/env bash
# Takes the place of bubblewrap for srt (its setting `bwrapPath`), and runs the real one with what srt leaves out.
#
# AGENTD_BWRAP: the path of the real one.
# AGENTD_ACCOUNTS: a folder with the files `passwd` and `group` that the sandbox shall see, if it is there.
#
# An IPC namespace: System V shared memory, queues and semaphores of the host are not seen, and those of the sandbox
# end with it.
real=$AGENTD_BWRAP
accounts=$AGENTD_ACCOUNTS
unset AGENTD_BWRAP AGENTD_ACCOUNTS

mounts=()
if [[ -f $accounts/passwd && -f $accounts/group ]]; then
    mounts=(--ro-bind "$accounts/passwd" /etc/passwd --ro-bind "$accounts/group" /etc/group)
fi

# Mounts come after those of srt, which cover what is before them, and before `--` and the command.
for ((at = 1; at <= $#; at++)); do
    if [[ ${!at} == -- ]]; then
        exec "$real" --unshare-ipc "${@:1:at-1}" "${mounts[@]}" "${@:at}"
    fi
done
exec "$real" --unshare-ipc "$@"
