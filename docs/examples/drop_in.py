"""An OpenAI client becomes an agent. It needs OPENAI_API_KEY."""

import math

from agentd import display_events, patch_openai_with_ptc, tool
from openai import OpenAI


@tool
def square_root(number: float) -> float:
    """The square root of a number.

    number: must not be negative
    """
    return math.sqrt(number)


client = patch_openai_with_ptc(OpenAI(), cwd="./workspace")

stream = client.responses.create(
    model="gpt-4.1",
    input="List the files, then calculate the square root of 144.",
    stream=True,
)

for event in display_events(stream):
    if event.type == "text_delta":
        print(event.text, end="", flush=True)
    elif event.type == "code_execution":
        print(f"\n$ {event.code}\n{event.output}\n")
