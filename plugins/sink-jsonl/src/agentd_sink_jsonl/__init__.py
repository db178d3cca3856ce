"""The event sink `jsonl`."""
