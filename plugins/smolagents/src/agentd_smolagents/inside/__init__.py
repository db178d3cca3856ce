"""What runs in the sandbox. Standard library only."""
