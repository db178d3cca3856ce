"""The daemon's commands for the command line."""
