"""A web service with a session for each conversation: `uvicorn fastapi_sessions:app`."""

from contextlib import asynccontextmanager
from uuid import uuid4

from agentd import Session
from fastapi import FastAPI

sessions: dict[str, Session] = {}


@asynccontextmanager
async def lifespan(app: FastAPI):
    yield
    for session in sessions.values():
        await session.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/conversations")
async def begin() -> str:
    name = uuid4().hex
    sessions[name] = await Session("gpt-4.1", cwd=f"conversations/{name}").open()
    return name


@app.post("/conversations/{name}")
async def ask(name: str, task: str) -> str:
    return (await sessions[name].ask(task)).text


@app.delete("/conversations/{name}")
async def end(name: str) -> None:
    await sessions.pop(name).aclose()
