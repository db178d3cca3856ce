"""What runs in the sandbox before the runner, with the standard library alone: it may be another interpreter."""
