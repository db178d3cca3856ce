"""The built-in event sinks: `console` shows a run to a person, `jsonl` keeps it as JSON lines."""
