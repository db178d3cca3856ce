"""Looking is free. Before anything changes, a person is asked."""

from agentd import SyncSession, tool
from agentd_policy import Question

ORDERS = {1: "open", 2: "open", 3: "sent"}


@tool(read_only=True)
def list_orders() -> dict[int, str]:
    """Return the state of each order."""
    return ORDERS


@tool
def cancel_order(number: int) -> str:
    """Cancel an order for good."""
    ORDERS[number] = "cancelled"
    return f"order {number} is cancelled"


def person(question: Question) -> str:
    """Ask for a yes: for this once, or for the rest of the session."""
    print(f"{question.kind} {question.name}", question.details(), sep="\n")
    answer = input("allow? [y/s/N] ")
    return {"y": "once", "s": "session"}.get(answer, "deny")


def main() -> None:
    with SyncSession(
        "gpt-4.1",
        cwd="shop",
        tools=[list_orders, cancel_order],
        policy="ask-writes",
        approver=person,
    ) as session:
        end = session.ask("Cancel all open orders; report in report.txt.")
        print(end.text)
        for action, decisions in session.transcript.decisions.items():
            print(action, decisions)


if __name__ == "__main__":
    main()
