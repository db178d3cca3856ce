"""What runs in the sandbox: sent as text, so it uses the standard library alone."""
