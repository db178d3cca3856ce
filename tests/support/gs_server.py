"""A server of Google Cloud Storage's API (gcp-storage-emulator) on loopback, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["gs_server"]

# Version 2026.7.19 of it knows no `ifGenerationMatch`: the condition that an object is new is added here.
_SERVER = """
import sys, threading
from http import HTTPStatus
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

plain, one_at_a_time = objects.insert, threading.Lock()

def exists(request, storage):
    name = request.query["name"][0] if "name" in request.query else request.data["meta"]["name"]
    try:
        storage.get_file_obj(request.params["bucket_name"], name)
    except NotFound:
        return False
    return True

def insert(request, response, storage, *arguments, **named):
    if request.query.get("ifGenerationMatch") != ["0"]:
        return plain(request, response, storage, *arguments, **named)
    with one_at_a_time:
        if not exists(request, storage):
            return plain(request, response, storage, *arguments, **named)
        response.status = HTTPStatus.PRECONDITION_FAILED
        response.json({"error": {"code": 412, "message": "conditionNotMet"}})

for _, by_method in server.HANDLERS:
    for method, handler in list(by_method.items()):
        if handler is plain:
            by_method[method] = insert
running = server.create_server("127.0.0.1", 0, in_memory=True)
running.start()
print("http://%s:%s" % running._api._httpd.server_address[:2], flush=True)
sys.stdin.read()
running.stop()
"""


@contextmanager
def gs_server() -> Iterator[str]:
    """Give the server's address, until the context is left."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it tells of each request
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()  # it ends
