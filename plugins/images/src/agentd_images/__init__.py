"""Pictures into a task, and out of code and tools: checked, scaled, kept as files and shown to models that can see.

`agentd.Images` says how many and how large, `agentd.Image` is one in a task. Pillow is imported when a picture comes.
"""
