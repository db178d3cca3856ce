"""Take back what a block of code has done to a workspace."""

from pathlib import Path

from agentd_snapshots import Snapshots

workspace = Path("project")
workspace.mkdir()
(workspace / "report.txt").write_text("the first version\n")

snapshots = Snapshots(workspace, "snapshots-of-projects")
before = snapshots.snapshot("before the clean-up")
print(f"{before.id}: {before.stats.files} file, {before.stats.new_bytes} bytes new")

(workspace / "report.txt").unlink()
(workspace / "notes.txt").write_text("by mistake\n")
changes = snapshots.diff("before the clean-up")
print("added:", *changes.added, "removed:", *changes.removed)

snapshots.restore("before the clean-up")  # or its id, or its turn: snapshots.restore(1)
print(*sorted(path.name for path in workspace.iterdir()))
