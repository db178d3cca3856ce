#!/usr/bin/env bash
# One would expect: `pip install "smolagents[mcp]"`, in an empty environment, gives a smolagents whose MCPClient can be made.
#
# What happens (smolagents 1.26.0, mcpadapt 0.1.19, mcp 2.3.0, CPython 3.11, Linux, 2026-11-30): neither smolagents nor mcpadapt
# bounds `mcp` from above, so pip takes 2.3.0, where a function that mcpadapt imports has another name. Output seen:
#
#   mcp 2.3.0: ImportError: cannot import name 'streamablehttp_client' from 'mcp.client.streamable_http'
#   mcp 1.30.0: it imports
#
# So `mcp<2` has to be asked for. This script runs both and fails if that changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" --disable-pip-version-check "$@"; }

cat >"$folder/client.py" <<'PYTHON'
import importlib.metadata
import sys

from mcp import StdioServerParameters
from smolagents import MCPClient

version = importlib.metadata.version("mcp")
try:
    MCPClient(StdioServerParameters(command=sys.executable, args=["-c", ""])).disconnect()
except ImportError as error:
    print(f"mcp {version}: ImportError: {str(error).partition(' (')[0]}")
except Exception:  # no server answers; the imports are behind us
    print(f"mcp {version}: it imports")
PYTHON
cd "$folder"
pip install -q "smolagents[mcp]==1.26.0" mcpadapt==0.1.19 mcp==2.3.0
timeout 60 "$folder/venv/bin/python" client.py 2>/dev/null | tee said
pip install -q "smolagents[mcp]==1.26.0" mcp==1.30.0
timeout 60 "$folder/venv/bin/python" client.py 2>/dev/null | tee -a said
cat >expected <<'TEXT'
mcp 2.3.0: ImportError: cannot import name 'streamablehttp_client' from 'mcp.client.streamable_http'
mcp 1.30.0: it imports
TEXT
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
