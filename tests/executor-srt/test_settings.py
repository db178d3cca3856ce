"""What the options mean for the sandbox, and what the executor itself protects."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import agentd
import pytest
import sandbox
from agentd.errors import ConfigError, SandboxUnavailableError, WorkspaceError
from agentd.registry import Registry
from agentd.types import BashAction, Limits
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_srt.factory import create_sandbox_runtime_executor, from_options
from agentd_executor_srt.requirements import safe_path
from agentd_executor_srt.settings import interpreter_paths
from agentd_skills import layout_of
from places import SUPPORT


def test_the_public_names_lead_here() -> None:
    assert agentd.SandboxRuntimeExecutor is SandboxRuntimeExecutor
    assert agentd.create_sandbox_runtime_executor is create_sandbox_runtime_executor


def test_the_plugin_makes_it_from_options(tmp_path: Path) -> None:
    sandbox.need_srt()
    options = {"srt_path": str(sandbox.CLI), "limits": {"open_files": 99}, "state": "kept", "timeout": 9}
    executor = Registry().create_executor("srt", tmp_path, **options)
    assert isinstance(executor, SandboxRuntimeExecutor)
    assert executor.limits.timeout_s == 9
    with executor:
        assert executor.execute_bash("ulimit -n") == ("99\n", 0)
        executor.execute_python("x = 1")
        assert executor.execute_python("print(x)") == ("1\n", 0)


def test_an_unknown_option_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'allowed_domains'"):
        from_options(tmp_path, {"allow_domains": []})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"profile": "strickt"}, "must be 'default' or 'strict'"),
        ({"deny_read": "~/.ssh"}, "deny_read: must be a list of paths"),
        ({"allowed_domains": "example.com"}, "must be a list of host names"),
        ({"conversation_id": "../x", "base_dir": "/tmp"}, "a name, not a path"),
        ({"limits": {"open_file": 1}}, "open_file"),
    ],
)
def test_a_wrong_option_is_said(tmp_path: Path, options: dict[str, object], why: str) -> None:
    workspace = None if "conversation_id" in options else tmp_path
    with pytest.raises(ConfigError, match=why):
        from_options(workspace, options)  # type: ignore[arg-type]


def test_the_old_factory_takes_what_it_took(tmp_path: Path) -> None:
    executor = create_sandbox_runtime_executor(
        "conv-1", tmp_path, 7, None, ["example.org"], ["evil.org"], True, ["~/x"]
    )
    assert executor.conversation_id == "conv-1"
    assert executor.workspace_dir == tmp_path / "conv-1" / "workspace"
    assert executor.limits.timeout_s == 7
    assert executor.deny_read == [Path.home() / "x"]
    assert executor.allow_local_binding is True
    default = create_sandbox_runtime_executor(workspace_dir=tmp_path / "w")
    assert default.limits.timeout_s == 60
    assert default.deny_read == [Path.home() / name for name in (".ssh", ".aws", ".gnupg")]
    assert (
        create_sandbox_runtime_executor(workspace_dir=tmp_path, limits=Limits(timeout_s=3)).limits.timeout_s
        == 3
    )
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="file"):
        create_sandbox_runtime_executor(workspace_dir=tmp_path / "file")


def test_more_folders_may_be_written_and_parts_of_them_not(tmp_path: Path) -> None:
    for name in ("more", "more/kept", "w/[kept]"):
        (tmp_path / name).mkdir(parents=True)
    with sandbox.make(
        tmp_path / "w", allow_write=[tmp_path / "more"], deny_write=[tmp_path / "more" / "kept", "[kept]"]
    ) as executor:
        for path, code in (("more/x", 0), ("more/kept/x", 1), ("w/[kept]/x", 1), ("w/k", 0), ("x", 1)):
            where = tmp_path / path
            assert executor.execute_bash(f"echo x > '{where}'")[1] == code, path
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {os.geteuid()}


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_what_is_denied_in_the_workspace_is_hidden_in_it(tmp_path: Path, profile: str) -> None:
    (tmp_path / "w" / "keys").mkdir(parents=True)
    for name in ("keys/one", "secrets.env", "other"):
        (tmp_path / "w" / name).write_text("s3cr3t")
    denied = ["keys", "secrets.env", tmp_path]
    with sandbox.make(tmp_path / "w", profile=profile, deny_read=denied) as executor:
        assert "s3cr3t" not in executor.execute_bash("cat keys/* secrets.env; cp secrets.env x; cat x")[0]
        assert executor.execute_bash("cat other") == ("s3cr3t", 0)


def test_a_denied_folder_that_holds_the_interpreter_keeps_the_rest_hidden(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("s3cr3t")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    with sandbox.make(
        tmp_path / "w", python=tmp_path / "venv" / "bin" / "python", deny_read=[tmp_path]
    ) as executor:
        assert executor.execute_python("import sys; print(sys.prefix)") == (f"{tmp_path}/venv\n", 0)
        assert executor.execute_bash(f"cat {tmp_path}/secret")[1] == 1


def test_the_base_folder_is_not_readable_but_the_workspace_in_it_is(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "other" / "workspace").mkdir(parents=True)
    (base / "other" / "workspace" / "secret").write_text("s3cr3t")
    with sandbox.make(conversation_id="mine", base_dir=base) as executor:
        output, _ = executor.execute_bash(f"echo x > y; cat y; cat {base}/other/workspace/secret; ls {base}")
        assert output.startswith("x\n")
        assert "s3cr3t" not in output
        assert "other" not in output.replace("other/workspace/secret", "")


def test_in_the_strict_profile_only_the_workspace_and_programs_are_readable(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("s3cr3t")
    (tmp_path / "wanted").write_text("wanted")
    skills = tmp_path / "w" / "skills"
    with sandbox.make(tmp_path / "w", profile="strict", allow_read=[tmp_path / "wanted"]) as executor:
        executor.attach(tools=None, layout=layout_of(skills))
        assert executor.execute_bash(f"cat {tmp_path}/secret")[1] == 1
        assert executor.execute_bash(f"cat {tmp_path}/wanted") == ("wanted", 0)
        for place in (
            Path.home(),
            "/var",
            "/home",
            "/srv",
            "/opt",
            "/mnt",
            "/sys",
            Path(__file__).parent,
            "/etc/shadow-",
        ):
            assert (
                executor.execute_bash(f"find {place} -type f 2>/dev/null | grep -v '/[.]pyenv/' | head -3")[0]
                == ""
            ), place
        output, code = executor.execute_python(
            "import ssl, sqlite3, json, pytest\nprint(ssl.create_default_context().cert_store_stats()['x509_ca'] >= 0)"
        )
        assert (output, code) == ("True\n", 0)
        assert executor.execute_bash("echo x > skills/y")[1] == 1
        ok, said = executor.verify()
        assert ok, said
        assert (
            executor.execute_bash(
                "git init -q r && cd r && git add -A && git status --short && python -m venv --help >/dev/null"
            )[1]
            == 0
        )


def test_the_host_s_own_interpreter_in_the_workspace_cannot_be_changed(tmp_path: Path) -> None:
    """Else the host would run, the next time, what code put there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    with sandbox.make(tmp_path, python=python) as executor:
        assert executor.execute_python("import sys; print(sys.prefix)") == (f"{tmp_path}/venv\n", 0)
        for target in ("venv/pyvenv.cfg", "venv/bin/python", "venv/lib/x.pth"):
            assert executor.execute_bash(f"echo x >> {target}")[1] != 0, target
        assert executor.execute_bash("mv venv old; rm -rf venv; test -x venv/bin/python") == (
            executor.execute_bash("mv venv old; rm -rf venv; test -x venv/bin/python")[0],
            0,
        )


def test_folders_of_path_that_code_can_write_to_are_left_out(tmp_path: Path) -> None:
    inside = tmp_path / "w" / "bin"
    inside.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inside)
    kept = safe_path(f"{inside}:{tmp_path}/link:relative::{tmp_path}/other:/usr/bin", [tmp_path / "w"])
    assert kept.split(":") == [f"{tmp_path}/other", "/usr/bin", "/usr/local/bin", "/bin"]


def test_an_srt_that_code_could_change_is_refused(tmp_path: Path) -> None:
    sandbox.need_srt()
    node_modules = sandbox.CLI.parents[3]
    (tmp_path / "link").symlink_to(sandbox.CLI)
    executor = SandboxRuntimeExecutor(tmp_path / "w", srt_path=tmp_path / "link", allow_write=[node_modules])
    with pytest.raises(SandboxUnavailableError, match="where code could change it"):
        executor.execute_bash("true")


def test_the_names_of_placeholders_are_told(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").touch()
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("true")
        there = {
            str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if ".agentd" not in path.parts
        }
        assert there - {".bashrc"} <= set(executor.placeholders)
        assert {".mcp.json", ".vscode"} <= there
        assert ".bashrc" not in executor.placeholders


def test_skills_that_come_later_are_protected_from_then_on(tmp_path: Path) -> None:
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("export A=1")
        executor.attach(tools=None, layout=layout_of(tmp_path / "skills"))
        output, code = executor.execute_bash("echo x > skills/x; echo [$A]")
        assert "skills/x: " in output
        assert "a new one was started" in output
        assert code == 0
        executor.attach(tools=None, layout=layout_of(tmp_path / "skills"))
        assert "new one" not in executor.execute_bash("true")[0]


def test_what_code_left_for_other_programs_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "CLAUDE.md").write_text("as it was")
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash(
            "git init -q new; echo x > new/.git/hooks/post-checkout; chmod +x new/.git/hooks/post-checkout; "
            "git -C new config core.fsmonitor ./x; mkdir -p d/.vscode deep/.git/hooks; echo x > d/.vscode/tasks.json; "
            "echo x > AGENTS.md; echo x > d/conftest.py; ln -s /etc/passwd d/.envrc; echo fine > d/fine.py; "
            "echo 'gitdir: /x' > deep/sub; mkdir s; echo 'gitdir: ../x' > s/.git; "
            "git init -q --bare bare; git -C bare config alias.x '!x'; "
            "mkdir $'a\\n\\e[31m'; echo x > $'a\\n\\e[31m/GEMINI.md'"
        )
        found = {risky.path for risky in executor.risky_files()}
        expected = {
            *("new/.git/hooks/post-checkout", "new/.git/config", "d/.vscode/tasks.json", "AGENTS.md"),
            *("d/conftest.py", "d/.envrc", "s/.git", "bare/config", "a\n\x1b[31m/GEMINI.md"),
        }
        assert found == expected
        with caplog.at_level(logging.WARNING, "agentd.executor.srt"):
            executor.close()
    assert "'AGENTS.md' (instructions for coding agents)" in caplog.text
    assert "'a\\n\\x1b[31m/GEMINI.md'" in caplog.text
    assert "CLAUDE.md" not in caplog.text


@pytest.mark.parametrize("killed", [False, True])
def test_what_may_not_be_written_and_is_not_there_leaves_no_trace(tmp_path: Path, killed: bool) -> None:
    (tmp_path / "there").write_text("as it was")
    with sandbox.make(tmp_path, deny_write=["AGENTS.md", "a/b", "there", tmp_path.parent / "x"]) as executor:
        command = "echo x > AGENTS.md; mkdir -p a/b && echo x > a/b/c; echo x > there; ls there"
        assert executor.run_sync(BashAction(command=command)).stdout == b"there\n"
        assert {"AGENTS.md", "a"} <= set(executor.placeholders)
        assert "there" not in executor.placeholders
        if killed:
            assert executor._process is not None
            children = Path(f"/proc/{executor._process.pid}/task/{executor._process.pid}/children")
            os.kill(int(children.read_text().split()[0]), signal.SIGKILL)  # srt, which would have tidied up
    assert {path.name for path in tmp_path.iterdir()} - {".agentd"} == {"there"}  # the runner was killed, too
    assert (tmp_path / "there").read_text() == "as it was"


def test_an_interpreter_s_neighbours_are_not_shown_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("venv/bin", ".local/bin", "bin", "versions/3/bin"):
        (tmp_path / folder).mkdir(parents=True)
    real = tmp_path / "versions/3/bin/python3"
    real.touch()
    for link in ("venv/bin/python", ".local/bin/python3"):
        (tmp_path / link).symlink_to(real)
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "bin/python3").touch()
    versions = str(tmp_path / "versions/3")
    assert interpreter_paths(str(tmp_path / "venv/bin/python")) == [str(tmp_path / "venv"), versions]
    assert interpreter_paths(str(tmp_path / ".local/bin/python3")) == [str(tmp_path / ".local/bin"), versions]
    assert interpreter_paths(str(tmp_path / "bin/python3")) == [str(tmp_path / "bin")]
    assert interpreter_paths("/usr/bin/env")[-1] == "/usr"


def test_a_proxy_that_says_nothing_is_no_sandbox_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentd_executor_srt import settings

    with sandbox.make(tmp_path / "a", profile="strict") as executor:
        assert executor.verify()[0] is True, executor.verify()
    allowed = settings.Policy._allow_read
    monkeypatch.setattr(
        settings.Policy,
        "_allow_read",
        lambda policy: [path for path in allowed(policy) if path != policy.sandbox_dir],
    )
    with sandbox.make(tmp_path / "b", profile="strict") as executor:
        ok, said = executor.verify()
    assert (ok, "its proxy does not answer" in said) == (False, True)


# --- what is missing ----------------------------------------------------------------------------


def refusal(tmp_path: Path, **options: object) -> str:
    executor = SandboxRuntimeExecutor(tmp_path / "w", **options)  # type: ignore[arg-type]
    ok, said = executor.verify()
    assert not ok
    with pytest.raises(SandboxUnavailableError) as caught:
        executor.execute_bash("true")
    assert str(caught.value) == said
    return said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="says something else on other systems")
def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd_executor_srt.requirements.shutil.which", lambda *_, **__: None)
    said = refusal(tmp_path)
    assert "npm install -g @anthropic-ai/sandbox-runtime" in said
    assert "apt-get install bubblewrap socat ripgrep" in said
    assert "Node.js" in said
    assert "\n" not in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="says something else on other systems")
def test_an_srt_that_is_too_old_or_something_else_is_refused(tmp_path: Path) -> None:
    cli = tmp_path / "package" / "dist" / "cli.js"
    cli.parent.mkdir(parents=True)
    cli.touch()
    assert "is not srt" in refusal(tmp_path, srt_path=cli)
    (tmp_path / "package" / "package.json").write_text(
        '{"name": "@anthropic-ai/sandbox-runtime", "version": "0.0.42"}'
    )
    assert "0.0.42" in refusal(tmp_path, srt_path=cli)
    assert "no such file" in refusal(tmp_path, srt_path=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("bwrap: setting up uid map: Permission denied", "user namespaces"),
        ("bwrap: No permissions to create new namespace", "user namespaces"),
        ("agentd: /root is closed", "/root is closed"),
        ("node:internal SyntaxError: Unexpected token 'with'", "install Node.js 22.12"),
        ("something\nelse", "something else"),
    ],
)
def test_why_it_did_not_start_is_explained(said: str, expected: str) -> None:
    from agentd_executor_srt.requirements import Programs, explain

    programs = Programs(node="/usr/bin/false", cli="/x", bwrap="/x", socat="/x", rg="/x", version="0.0.83")
    got = explain(said, programs)
    assert expected in got
    assert "\n" not in got


def test_a_sandbox_without_namespaces_is_unavailable_and_nothing_runs_outside(tmp_path: Path) -> None:
    sandbox.need_srt()
    code = (
        "import sys\n"
        f"sys.path.append({str(SUPPORT)!r})\n"
        "import sandbox\n"
        f"executor = sandbox.make({str(tmp_path / 'w')!r})\n"
        "print(executor.verify())\n"
        "try: print(executor.execute_bash('echo ran on $PPID'))\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    if os.geteuid() != 0:
        pytest.skip("needs root, to forbid user namespaces to a child")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    done = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", forbid, "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    if "False" not in done.stdout:
        pytest.skip(f"no user namespace to try this in: {done.stderr[-200:]}")
    assert "ran on" not in done.stdout
    assert done.stdout.splitlines()[-1] == "SandboxUnavailableError"


def test_verify_tells_of_denied_files_that_have_another_name(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("one", "two"):
        (keys / name).write_text("s3cr3t")
    os.link(keys / "one", tmp_path / "other")
    with sandbox.make(tmp_path / "w", deny_read=[keys]) as executor:
        holds, said = executor.verify()
    assert holds
    assert f"{str(keys / 'one')!r} has further names (hard links)" in said
    assert "two" not in said
