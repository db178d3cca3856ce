"""The model gets a picture, draws another one and looks at it."""

from pathlib import Path

from agentd import SyncSession

task = ["Turn this upside down, and check that it is.", Path("photo.png")]

with SyncSession("gpt-4.1", cwd="./workspace", images=True) as session:
    for event in session.run(task):
        if event.type == "picture":
            print(event.name, event.width, event.height)
        elif event.type == "text_delta":
            print(event.text, end="")
