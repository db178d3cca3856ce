"""The classic tool loop: the model calls functions natively, as JSON, and no code runs.

Set OPENAI_API_KEY, or OPENAI_BASE_URL for another server.
"""

from agentd import display_events, patch_openai_with_mcp, tool
from openai import OpenAI

STOCK = {"tea": 12, "coffee": 0, "cake": 3}


@tool
def in_stock(item: str) -> int:
    """How many of an item there are.

    item: its name
    """
    if item not in STOCK:
        raise ValueError(f"we have no {item}; there are: {', '.join(STOCK)}")
    return STOCK[item]


client = patch_openai_with_mcp(OpenAI())

stream = client.responses.create(
    model="gpt-4.1",
    input="Are there tea and milk?",
    stream=True,
)

for event in display_events(stream):
    if event.type == "text_delta":
        print(event.text, end="", flush=True)
    elif event.type == "tool_call":
        print(f"[{event.name} {event.arguments} -> {event.result}]")
