"""The core API without async: the same session, for scripts, threads and notebooks."""

from agentd import SyncSession

with SyncSession("gpt-4.1", cwd="./workspace", tools=[]) as session:
    for event in session.run("Write the numbers from 1 to 3 into numbers.txt and check the file."):
        if event.type == "code_execution":
            print(f"{event.target}: {event.status}")
    answer = session.ask("How many lines does it have?")  # the conversation goes on
    print(answer.text)
    session.transcript.save("transcript.json")
