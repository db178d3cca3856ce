"""Which state folder a command means: the one of a configuration, or one that is named."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["chosen_folder", "files_argument", "state_dir_option"]


def chosen_folder(files: tuple[Path, ...], state_dir: Path | None) -> Path | None:
    """Return the folder of the daemon with these configuration files, or `state_dir`; None if neither is given."""
    if state_dir is not None:
        return state_dir
    if not files:
        return None
    from agentd_daemon.config.loading import examine
    from agentd_daemon.state import default_state_dir

    config = examine(files).config  # a broken configuration does not keep one from looking
    chosen = config.state_dir if config is not None else None
    folder = Path(chosen) if chosen else default_state_dir(files)
    missing = [str(file) for file in files if not file.exists()]
    # A file that is gone still names the folder of a daemon that was started with it.
    if missing and not folder.exists():
        raise click.UsageError(f"there is no file {missing[0]!r}, and no daemon was started with it")
    return folder


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The daemon's state folder, instead of the FILEs that it was started with.",
)
files_argument = click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path(path_type=Path))
