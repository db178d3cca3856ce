"""Public tasks, replayed by their gold calls through code and through JSON tools (`make evidence`)."""
