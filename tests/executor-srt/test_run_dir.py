"""srt's settings name programs that run outside: no code, of whatever session, comes near them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import sandbox
from agentd_executor_srt.run_dir import make_run_dir, run_base


def test_code_that_may_write_to_the_temporary_folder_cannot_touch_another_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        # One of its own, with a short path: srt itself must not lie in a folder that code can write to.
        tempfile.TemporaryDirectory(prefix="agentd-t-") as temporary,
        monkeypatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", temporary)
        os.chmod(temporary, 0o1777)
        _check_that_it_cannot(tmp_path)


def _check_that_it_cannot(tmp_path: Path) -> None:
    with (
        sandbox.make(tmp_path / "a") as one,
        sandbox.make(tmp_path / "b", allow_write=[tempfile.gettempdir()]) as two,
    ):
        one.execute_bash("true")
        other = one._sandbox_dir
        assert other is not None
        base = run_base(other)
        assert two.execute_bash(f"cd {tempfile.gettempdir()} && touch agentd-t-$$ && rm agentd-t-$$")[1] == 0
        assert two._policy is not None
        files = two._policy.settings()["filesystem"]  # as root, other things would keep it from them, too
        assert str(base) in files["denyRead"]
        assert str(base) in files["denyWrite"]
        assert other.name not in two.execute_bash(f"ls {base}")[0].split()
        assert two.execute_bash(f"ls {other}")[1] != 0
        two.execute_bash(
            f"touch {base}/x {other}/x; echo '{{}}' > {other}/settings.json; mv {base} {base}.moved; rm -rf {base}"
        )
        assert (other / "hidden" / "file").read_text() == "hidden\n"
        assert not {"x", "settings.json"} & {path.name for path in (*other.iterdir(), *base.iterdir())}
        assert one.execute_bash("echo on") == ("on\n", 0)


def test_the_folder_of_all_sandboxes_is_closed_and_goes_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, two = make_run_dir(), make_run_dir()
    assert run_base(one) == run_base(two) == tmp_path / f"agentd-srt-{os.geteuid()}"
    assert run_base(one).stat().st_mode & 0o066 == 0
    assert one.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["link", "open"])
def test_a_folder_that_somebody_else_has_prepared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = tmp_path / f"agentd-srt-{os.geteuid()}"
    (tmp_path / "elsewhere").mkdir()
    if kind == "link":
        taken.symlink_to("elsewhere")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    made = make_run_dir()
    assert run_base(made).parent == tmp_path
    assert run_base(made) not in (taken, tmp_path / "elsewhere")
    assert run_base(made).stat().st_mode & 0o066 == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
