"""The model works with code, and its last answer is a value."""

from agentd import SyncSession
from pydantic import BaseModel


class Count(BaseModel):
    files: int
    lines: int


with SyncSession("gpt-4.1", cwd="./workspace") as session:
    count = session.ask("How many Python files and lines?", output=Count)

print(count.files, count.lines)
