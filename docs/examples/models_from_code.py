"""A strong model writes the code; the code asks a cheap one 500 questions, and an agent writes the report."""

from agentd import Budgets, SyncSession, models_from_code

TASK = """snippets.json holds 500 texts. Have the cheap model say for each whether it is a complaint,
and have an agent write complaints.md from those that are."""

models = models_from_code(model="gpt-4.1-nano", models=["gpt-4.1"], width=4)
with SyncSession("gpt-4.1", cwd="./workspace", tools=[models], budgets=Budgets(max_cost_usd=2.0)) as session:
    end = session.ask(TASK)

print(end.text)
print(f"{end.usage.requests} requests, ${session.cost_usd:.2f}")
