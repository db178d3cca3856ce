"""The tools of an MCP server as Python functions in the code that the model writes.

Set OPENAI_API_KEY, or OPENAI_BASE_URL for another server; `pip install mcp-server-time` brings this one. A server
may also be a URL, a command line ("npx -y @modelcontextprotocol/server-everything") or a file with
`mcpServers` in it (`pathlib.Path("mcp.json")`).
"""

import sys

from agentd import display_events, patch_openai_with_ptc
from openai import OpenAI

time_server = {"name": "time", "command": sys.executable, "args": ["-m", "mcp_server_time"]}

client = patch_openai_with_ptc(OpenAI(), cwd="./workspace")

stream = client.responses.create(
    model="gpt-4.1",
    input="It is 16:30 in Berlin. What time is it in Tokyo and in New York?",
    mcp_servers=[time_server],
    stream=True,
)

for event in display_events(stream):
    if event.type == "text_delta":
        print(event.text, end="", flush=True)
    elif event.type == "code_execution":
        print(f"\n$ {event.code}\n{event.output}\n")
