"""The environment that code sees: built from an allow-list, never a copy of the host's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from agentd.errors import ConfigError
from agentd.protocols import Layout

__all__ = ["ALLOWED", "Place", "base_environment", "find_interpreter", "path_environment"]

ALLOWED = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "USER", "LOGNAME", "SHELL"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_DEFAULT_TIMEOUT"),
        *("PIP_CONSTRAINT", "UV_INDEX_URL", "npm_config_registry"),
    }
)
"""Names taken over from the host, `LC_*` besides, unless the value holds a password in a URL."""

_CREDENTIALS = re.compile(r"://[^/\s@]+@")


OWN_FOLDER = ".agentd"


@attrs.frozen
class Place:
    """Where agentd keeps its own things inside a workspace: one hidden folder, made by the runner."""

    workspace: Path

    @property
    def root(self) -> Path:
        return self.workspace / OWN_FOLDER

    @property
    def site(self) -> Path:
        """What `pip install` in a block installs into."""
        return self.root / "site"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def folders(self) -> list[str]:
        """Relative to the workspace, those that are there for as long as a session is, the outer one first."""
        return [str(path.relative_to(self.workspace)) for path in (self.root, self.home, self.temporary)]


def base_environment(
    host: Mapping[str, str], place: Place, extra: Mapping[str, str], *, temporary: str | None = None
) -> dict[str, str]:
    """Return the variables of a session, without those of `path_environment`.

    `temporary` is the folder for TMPDIR where there is a better one than the workspace has: Unix sockets
    are made in it, and their paths may have some 100 characters only.
    `extra` is what the user passed on purpose; it wins over everything.
    """
    env = {
        name: value
        for name, value in host.items()
        if (name in ALLOWED or name.startswith("LC_")) and not _CREDENTIALS.search(value)
    }
    env.setdefault("LANG", "C.UTF-8")
    env |= {
        "HOME": str(place.home),
        "TMPDIR": temporary or str(place.temporary),
        "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ beside the user's files
        "PIP_TARGET": str(place.site),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "GIT_TERMINAL_PROMPT": "0",  # a prompt would wait for the time-out
        "DEBIAN_FRONTEND": "noninteractive",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        **extra,
    }
    return env


def path_environment(env: Mapping[str, str], place: Place, python: str, layout: Layout) -> dict[str, str]:
    """Return PATH and PYTHONPATH: the workspace's site folder, the interpreter, and the renderer's files.

    The renderer's programs stand at the end of PATH, so that none can take the place of a system command.
    """
    path = [str(place.site / "bin"), str(Path(python).parent), env.get("PATH") or "/usr/bin:/bin"]
    path += map(str, layout.programs)
    pythonpath = [*map(str, layout.importable), str(place.site)]
    return {"PATH": ":".join(path), "PYTHONPATH": ":".join(pythonpath)}


def find_interpreter(python: str | Path | None) -> str:
    """Return the path of an interpreter, by default the one that runs this program.

    :raises ConfigError: if it is no executable file.
    """
    path = str(python or sys.executable)
    if not os.path.isabs(path) or not os.access(path, os.X_OK):
        raise ConfigError(f"python={path!r} is no executable file; give the absolute path of an interpreter")
    return path
