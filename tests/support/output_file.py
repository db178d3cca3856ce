"""Where a harness writes its figures: looked at when its options are read, not when hours have passed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

__all__ = ["output_file", "write_output"]


def output_file(text: str) -> Path:
    """Return the path of a file that can be written: the `type=` of an option of argparse.

    :raises argparse.ArgumentTypeError: if it cannot be written; argparse names the option and ends the program.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written: permission denied")
    return path


def write_output(path: Path, text: str) -> bool:
    """Write what was measured for hours; if that fails, write it elsewhere, say so, and return False."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"{path} could not be written: {error.strerror}", file=sys.stderr)
        try:
            with tempfile.NamedTemporaryFile("w", suffix=path.suffix, delete=False, encoding="utf-8") as file:
                file.write(text)
        except OSError as other:
            print(
                f"nor could {tempfile.gettempdir()}: {other.strerror}; the figures are above alone",
                file=sys.stderr,
            )
        else:
            print(f"what was to be in it is in {file.name}", file=sys.stderr)
        return False
    return True
