"""A program with one patched client, made (and with FORKING_APP_WARM used) before whatever forks it.

It is a WSGI application, a Celery application, and a module for `multiprocessing`. `FORKING_APP_URL` is the model
server, `FORKING_APP_DIR` a folder for its workspace and for what Celery's tasks say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agentd_openai import patch_openai_with_ptc
from openai import OpenAI

TASKS = 6
FOLDER = Path(os.environ["FORKING_APP_DIR"])


def new_client() -> OpenAI:
    client = OpenAI(base_url=os.environ["FORKING_APP_URL"], api_key="none", max_retries=0, timeout=30)
    return patch_openai_with_ptc(client, cwd=FOLDER / "work", executor="subprocess")


client = new_client()


def ask(task: object = 0, using: OpenAI = client) -> str:
    """Return what the model says of a block's output, and our pid."""
    messages: Any = [{"role": "user", "content": f"task {task}"}]
    said = using.chat.completions.create(model="m", messages=messages).choices[0].message.content
    return f"{said} in {os.getpid()}"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    said = ask(environ["QUERY_STRING"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
    return [said]


def run_celery() -> None:
    from celery import Celery
    from celery.signals import worker_ready

    app = Celery("forking_app", broker="memory://")
    app.conf.worker_hijack_root_logger = False

    @app.task(name="work")  # type: ignore[untyped-decorator]
    def work(number: int) -> None:
        said = ask(number)
        (FOLDER / f"said{number}.part").write_text(said)
        (FOLDER / f"said{number}.part").rename(FOLDER / f"said{number}")

    def begin(**_: object) -> None:
        for number in range(TASKS):
            work.delay(number)

    worker_ready.connect(begin, weak=False)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=warning"]
    app.worker_main(["worker", "-P", "prefork", "-c", "2", *options])


def run_fork() -> None:
    """Fork twice, one below the other; all three ask at the same time, and the grandchild with a client of its own."""
    child = os.fork()
    grandchild = os.fork() if not child else -1
    using = client if child or grandchild else new_client()
    for number in range(3):
        print(ask(number, using), flush=True)
    if not child:
        if grandchild:
            os.waitpid(grandchild, 0)
        client.cleanup_ptc()  # type: ignore[attr-defined]
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(ask("last"), flush=True)  # the child has ended nothing of ours


def run_multiprocessing(method: str) -> None:
    import multiprocessing

    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["forking_app"])
    print(ask("first"), flush=True)
    with context.Pool(2) as pool:
        for said in pool.map(ask, range(4), chunksize=1):
            print(said)
    print(ask("last"), flush=True)


if os.environ.get("FORKING_APP_WARM"):
    ask("warm")

if __name__ == "__main__":
    import forking_app  # under its own name, for what is pickled

    match sys.argv[1:]:
        case ["celery"]:
            forking_app.run_celery()
        case ["os.fork"]:
            forking_app.ask("first")
            forking_app.run_fork()
        case [method]:
            forking_app.run_multiprocessing(method)
