"""A web page that shows an answer while it is made.

Serve it with `uvicorn starlette_events:app`.
"""

import json
from collections.abc import AsyncIterator

from agentd import Session
from agentd.events import as_dict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route

PAGE = r"""<!doctype html>
<form><input name="task" size="60" autofocus> <button>ask</button></form>
<pre></pre>
<script type="module">
const form = document.querySelector("form")
const shown = document.querySelector("pre")

function show(event) {
  if (event.type === "text_delta") shown.append(event.text)
  if (event.type === "code_execution")
    shown.append(`$ ${event.code}\n${event.output}\n`)
}

form.onsubmit = async submitted => {
  submitted.preventDefault()
  shown.textContent = ""
  const task = new FormData(form).get("task")
  const answer = await fetch("/answer", {method: "POST", body: task})
  const texts = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  for (let read; !(read = await texts.read()).done; ) {
    const events = (text + read.value).split("\n\n")
    text = events.pop()
    for (const event of events) show(JSON.parse(event.split("\ndata: ")[1]))
  }
}
</script>"""


async def events_of(task: str) -> AsyncIterator[str]:
    """Run a task, and yield its events in the form of server-sent ones."""
    async with Session("gpt-4.1", executor="native", cwd="work") as session:
        async for event in session.run(task):
            data = json.dumps(as_dict(event))
            yield f"event: {event.type}\ndata: {data}\n\n"


async def answer(request: Request) -> StreamingResponse:
    task = (await request.body()).decode()
    return StreamingResponse(events_of(task), media_type="text/event-stream")


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/answer", answer, methods=["POST"]),
    ]
)
