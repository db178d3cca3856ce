"""The demo: an agent that works on this repository's own files, with a replayed model or a real one.

`agentd_demo.replay.ReplayServer` is also what tests use as a real OpenAI-compatible endpoint.
"""
