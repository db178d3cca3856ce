"""Replay public tasks through code and through JSON tools: `python tests/evidence/run.py [--quick] [--json FILE]
[--write]`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script, from any directory
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from evidence.environment import FOLDER, python
from evidence.options import parse

if __name__ == "__main__":
    if Path(sys.prefix).resolve() != FOLDER.resolve():
        parse()  # help, and what is wrong, come before the environment is made
        try:
            interpreter = str(python())
        except subprocess.CalledProcessError:
            sys.exit(
                "evidence: its environment could not be made, as pip says above; the same command tries again"
            )
        except KeyboardInterrupt:
            print("stopped: the environment is made anew with the next start", file=sys.stderr)
            sys.exit(130)
        os.execv(interpreter, [interpreter, *sys.argv])
    from evidence.cli import main

    sys.exit(main())
