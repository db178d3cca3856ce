"""Code that the model writes runs in a microVM of its own, which may reach one host and nothing else.

Needs `pip install "agentd[msb]>=1.0.0rc1"` and hardware virtualisation. Set OPENAI_API_KEY, or OPENAI_BASE_URL for
another server; MSB_IMAGE is an image with Python 3.11 or newer and bash;
fetch it before: msb pull python.
"""

import os

from agentd import create_microsandbox_cli_executor, display_events, patch_openai_with_ptc, tool
from openai import OpenAI


@tool
def square_root(number: float) -> float:
    """The square root of a number. Runs here, in this program, not in the microVM."""
    return number**0.5


executor = create_microsandbox_cli_executor(
    image=os.environ.get("MSB_IMAGE", "python"),
    python=os.environ.get("MSB_PYTHON", "python3"),
    memory=1024,
    cpus=1,
    workspace_dir="./workspace",
    network=["api.github.com"],
)
works, message = executor.verify()
if not works:
    raise SystemExit(message)

with executor:
    client = patch_openai_with_ptc(OpenAI(), executor=executor)
    stream = client.responses.create(
        model="gpt-4.1",
        input="Which kernel are you on? Then work out the square root of 144.",
        stream=True,
    )
    for event in display_events(stream):
        if event.type == "text_delta":
            print(event.text, end="", flush=True)
        elif event.type == "code_execution":
            print(f"\n$ {event.code}\n{event.output}\n")
    client.cleanup_ptc()
