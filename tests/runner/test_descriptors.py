"""Messages between the processes of a runner."""

from __future__ import annotations

import os

import pytest
from agentd_runner.inside.descriptors import message_pair, receive, send_with_descriptors


@pytest.mark.parametrize("unread", [0, 1, 3])
def test_what_was_sent_before_the_end_is_received_also_by_one_whose_message_was_never_read(
    unread: int,
) -> None:
    ours, theirs = message_pair()
    for _ in range(unread):
        ours.send(b"a command for what has ended")
    send_with_descriptors(theirs, b"report", [0])
    theirs.close()
    data, descriptors = receive(ours, 512, 1)
    assert (data, len(descriptors)) == (b"report", 1)
    os.close(descriptors[0])
    assert receive(ours, 512, 1) == (b"", [])
    ours.close()
    assert receive(ours, 512, 1) == (b"", []), "so has a closed one"
