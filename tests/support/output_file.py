"""Where a harness writes its figures: looked at when its options are read, not when hours have passed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

__all__ = ["output_file"]


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
