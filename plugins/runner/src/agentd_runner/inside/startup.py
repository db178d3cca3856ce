"""What every Python that code starts runs first: it writes to the block's own output at once.

So output is shown while it is made, and what a program has printed is there if it is ended. With PYTHONUNBUFFERED, it
would write into pipes between programs at once as well: `python3 x.py | head -3` would end with a traceback where an
ordinary shell says nothing.
"""

from __future__ import annotations

import os

from .files import make_folder, remove_folder, write_file

VARIABLE = "AGENTD_OUTPUT"
NAME = "sitecustomize.py"
FOLDER = os.path.join(os.path.dirname(__file__), "at_start")
# Where this package is no folder, its file is gone once it is imported.
TEXT = b"" if os.path.isdir(FOLDER) else globals()["__loader__"].get_data(os.path.join(FOLDER, NAME))


class StartupFolder:
    """A folder for PYTHONPATH: this package's own or, where that is an artefact, one in the session's TMPDIR."""

    def __init__(self, workspace: str, temporary: str, token: str) -> None:
        self.workspace = workspace
        self.path = os.path.join(temporary, f".agentd-{token[:8]}") if TEXT else FOLDER
        if TEXT:
            try:
                make_folder(workspace, self.path)
                write_file(workspace, self.path, NAME, TEXT)
            except OSError:
                pass  # output is buffered then, and nothing else

    def remove(self) -> None:
        if TEXT:
            try:
                write_file(self.workspace, self.path, NAME, None)
                remove_folder(self.workspace, self.path)
            except OSError:
                pass

    def on_path(self, env: dict[str, str]) -> None:
        """Put it in front of what an environment has."""
        env["PYTHONPATH"] = ":".join(filter(None, (self.path, env.get("PYTHONPATH"))))


def output_variable(out: int, err: int) -> str:
    """Return the variable's value for these descriptors of pipes."""
    return f"{os.fstat(out).st_ino}:{os.fstat(err).st_ino}"
