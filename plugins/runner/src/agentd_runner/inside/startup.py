"""Files for what code starts: what every Python runs first, and the command `job`.

The first writes to the block's own output at once. So output is shown while it is made, and what a program has printed
is there if it is ended. With PYTHONUNBUFFERED, it would write into pipes between programs at once as well:
`python3 x.py | head -3` would end with a traceback where an ordinary shell says nothing.
"""

from __future__ import annotations

import os

from .files import make_folder, remove_folder, write_file

VARIABLE = "AGENTD_OUTPUT"
HERE = os.path.dirname(__file__)
FOLDER, PROGRAMS = os.path.join(HERE, "at_start"), os.path.join(HERE, "programs")
FILES = (os.path.join(FOLDER, "sitecustomize.py"), os.path.join(PROGRAMS, "job"))
# Where this package is no folder, its file is gone once it is imported.
TEXTS = (
    {}
    if os.path.isdir(FOLDER)
    else {os.path.basename(path): globals()["__loader__"].get_data(path) for path in FILES}
)


class StartupFolder:
    """Folders for PYTHONPATH and PATH: this package's own or, where it is an artefact, one in the session's TMPDIR."""

    def __init__(self, workspace: str, temporary: str, token: str) -> None:
        self.workspace = workspace
        own = os.path.join(temporary, f".agentd-{token[:8]}")
        self.path, self.programs = (own, own) if TEXTS else (FOLDER, PROGRAMS)
        if TEXTS:
            try:
                make_folder(workspace, self.path)
                for name, text in TEXTS.items():
                    write_file(workspace, self.path, name, text)
            except OSError:
                pass  # output is buffered then, and there is no command `job`

    def remove(self) -> None:
        if TEXTS:
            try:
                for name in TEXTS:
                    write_file(self.workspace, self.path, name, None)
                remove_folder(self.workspace, self.path)
            except OSError:
                pass

    def on_path(self, env: dict[str, str]) -> None:
        """Put it in front of what an environment has for Python."""
        env["PYTHONPATH"] = ":".join(filter(None, (self.path, env.get("PYTHONPATH"))))

    def programs_on_path(self, env: dict[str, str]) -> None:
        """Put the programs behind all others: none takes the place of a system's."""
        env["PATH"] = ":".join(filter(None, (env.get("PATH"), self.programs)))


def output_variable(out: int, err: int) -> str:
    """Return the variable's value for these descriptors of pipes."""
    return f"{os.fstat(out).st_ino}:{os.fstat(err).st_ino}"
