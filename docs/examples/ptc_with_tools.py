"""Python functions as tools: plain, async and typed, imported by the code that the model writes.

Set OPENAI_API_KEY, or OPENAI_BASE_URL for another server.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

from agentd import display_events, patch_openai_with_ptc, tool
from openai import OpenAI


@dataclass
class Order:
    """What a customer wants."""

    item: str
    amount: int = 1


PRICES = {"tea": 3.5, "coffee": 4.0, "cake": 5.25}


@tool
def price(order: Order, currency: Literal["EUR", "USD"] = "EUR") -> float:
    """The price of an order.

    order: the item and how many of it
    currency: what to pay in
    """
    if order.item not in PRICES:
        raise ValueError(f"we have no {order.item}; there are: {', '.join(PRICES)}")
    return round(PRICES[order.item] * order.amount * (1.0 if currency == "EUR" else 1.08), 2)


@tool
async def in_stock(items: list[str]) -> dict[str, bool]:
    """Which of the items can be had today."""
    await asyncio.sleep(0.01)  # a database, say
    return {item: item in PRICES for item in items}


client = patch_openai_with_ptc(OpenAI(), cwd="./workspace")

stream = client.chat.completions.create(
    model="gpt-4.1",
    messages=[{"role": "user", "content": "What do two teas and a cake cost in dollars? Are they in stock?"}],
    stream=True,
)

for event in display_events(stream):
    if event.type == "text_delta":
        print(event.text, end="", flush=True)
    elif event.type == "code_execution":
        print(f"\n$ {event.code}\n{event.output}\n")
    elif event.type == "tool_call":
        print(f"[{event.name}({event.arguments}) -> {event.result}]")
