"""Run in a process of its own with a fresh MSB_HOME: keep a real microVM's disk, ask msb for one that begins with it.

msb makes the disk before the boot, so this works on hosts that cannot boot. Prints one JSON object: `kept` and
`unlabelled` are the snapshots, `inspect` is what msb has stored of the restored microVM, `unknown` the error for a
label that is none, `left` what msb has in the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from agentd.errors import UnknownSnapshotError
from agentd_executor_msb import disks
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.thread import sdk_thread
from agentd_skills import layout_of
from contract import MSB
from microsandbox import Sandbox, SandboxNotFoundError, Snapshot


def write_image(path: Path, platform: str) -> None:
    """Write the smallest image there is, as an OCI archive that `msb load` takes: no program in it, it never boots."""
    layer = tar({"hello": b"hi"})
    config = encoded({"architecture": platform, "os": "linux", "config": {}, "rootfs": rootfs(layer)})
    kind = "application/vnd.oci.image."
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}manifest.v1+json",
            "config": blob(config, f"{kind}config.v1+json"),
            "layers": [blob(layer, f"{kind}layer.v1.tar")],
        }
    )
    entry = blob(manifest, f"{kind}manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "tiny:latest"}
    index = encoded({"schemaVersion": 2, "manifests": [entry]})
    files = {f"blobs/sha256/{digest(data)}": data for data in (layer, config, manifest)}
    path.write_bytes(tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **files}))


def tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def blob(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest(data)}", "size": len(data)}


def rootfs(layer: bytes) -> dict[str, Any]:
    return {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}"]}


def begin(executor: MicrosandboxCLIExecutor) -> tuple[Any, dict[str, Any]]:
    """Start it, wait until msb has stored its configuration; return the start, which will fail, and that."""
    starting = sdk_thread().start(executor._vm._make())  # `up` would tidy up after the boot that fails

    def look() -> dict[str, Any] | None:
        if starting.done():
            raise SystemExit(f"nothing was stored: {starting.exception()!r}")
        return sdk_thread().run(stored(executor.vm_name), 30)

    return starting, until(look)


async def stored(name: str) -> dict[str, Any] | None:
    try:
        config: dict[str, Any] = (await Sandbox.get(name)).config()
    except SandboxNotFoundError:
        return None
    return config


async def halt(name: str) -> None:
    """End a boot, and leave what there is of it: msb keeps disks of microVMs that run well or not at all."""
    await (await Sandbox.get(name)).stop(timeout=5)


def until(look: Callable[[], Any], timeout_s: float = 30) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > end:
            raise SystemExit("nothing happened in time")
        time.sleep(0.1)
    return found


def end(executor: MicrosandboxCLIExecutor, starting: Any) -> None:
    starting.cancel()
    sdk_thread().run(executor._vm.down(), 30)


def main(place: Path) -> None:
    thread = sdk_thread()
    write_image(place / "tiny.tar", "amd64")
    subprocess.run([MSB, "load", "--input", str(place / "tiny.tar")], check=True, timeout=60)
    (place / "skills").mkdir()
    source = MicrosandboxCLIExecutor(place / "one", image="tiny", pull="never", base_dir=place / "base")
    source.attach(tools=None, layout=layout_of(place / "skills"))
    starting, _ = begin(source)
    starting.cancel()
    thread.run(halt(source.vm_name), 30)
    kept = thread.run(disks.keep_disk(source.vm_name, "x/../../evil"), 60)
    unlabelled = thread.run(disks.keep_disk(source.vm_name, None), 60)
    end(source, starting)
    found: dict[str, Any] = {"kept": attrs.asdict(kept), "unlabelled": attrs.asdict(unlabelled)}
    restored = MicrosandboxCLIExecutor.from_vm_snapshot(
        "x/../../evil",
        place / "two",
        memory=300,
        user="1000",
        security="restricted",
        network=["api.github.com"],
        idle_timeout_s=60,
    )
    starting, found["inspect"] = begin(restored)
    end(restored, starting)
    try:
        thread.run(disks.find_disk("none of these"), 30)
    except UnknownSnapshotError as error:
        found["unknown"] = str(error)
    until(lambda: removed(kept))
    thread.run(disks.discard_disk(unlabelled.id), 60)
    found["left"] = thread.run(left(), 30)
    print(json.dumps(found))


def removed(kept: disks.VmSnapshot) -> bool:
    """Remove it, once msb has let go of it: the boot that failed has just been ended."""
    try:
        return sdk_thread().run(disks.discard_disk(kept.id), 60) == kept
    except disks.ExecutorError as error:
        return "in use" not in str(error)


async def left() -> list[str]:
    names = [handle.name for handle in (await Sandbox.list()).sandboxes]
    return [*names, *[handle.id for handle in await asyncio.wait_for(Snapshot.list(), 30)]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    # A thread of the SDK that lets go of a cancelled start would abort an interpreter that ends in order.
    os._exit(0)
