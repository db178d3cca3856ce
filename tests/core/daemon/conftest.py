"""What the tests of the daemon share."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves helper modules that lie beside the tests unfindable
sys.path.insert(0, str(Path(__file__).parent))
