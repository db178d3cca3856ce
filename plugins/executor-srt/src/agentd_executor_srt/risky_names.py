"""Names of files and folders that programs run or obey because they are there, with who does.

Not among them: what a project is built and run by (`Makefile`, `package.json`, `pyproject.toml`, its own source).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["file_reason", "folder_reason"]

_FILES: Final = {
    "direnv and programs that load it into their environment": ".envrc .env",
    "instructions for coding agents": (
        "AGENTS.md AGENTS.override.md AGENT.md CLAUDE.md CLAUDE.local.md GEMINI.md QWEN.md WARP.md CRUSH.md "
        ".cursorrules .windsurfrules .clinerules .roorules .goosehints"
    ),
    "commands that coding agents start": (
        ".mcp.json mcp.json .claude.json opencode.json opencode.jsonc .crush.json crush.json .roomodes "
        ".aider.conf.yml"
    ),
    "run by Python's tools": (
        "conftest.py sitecustomize.py usercustomize.py tox.ini noxfile.py .pdbrc .pylintrc pylintrc .flake8 "
        "mypy.ini .mypy.ini pytest.ini setup.cfg ipython_config.py .coveragerc"
    ),
    "settings of git": ".gitconfig .gitmodules .gitattributes .lfsconfig",
    "read by shells": (
        ".bashrc .bash_profile .bash_login .bash_logout .bash_aliases .profile .inputrc .zshrc .zprofile .zshenv "
        ".zlogin .zlogout .kshrc .cshrc .tcshrc .login config.fish"
    ),
    "settings of installers": (
        ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs pip.conf .pypirc uv.toml poetry.toml bunfig.toml .pnp.cjs "
        ".pnp.loader.mjs .gemrc .condarc"
    ),
    "commands that git hooks run": (
        ".pre-commit-config.yaml prek.toml lefthook.yml .lefthook.yml lefthook.yaml .lefthook.yaml "
        "lefthook-local.yml .overcommit.yml .huskyrc .lintstagedrc captainhook.json"
    ),
    "settings of editors": (
        ".vimrc _vimrc .nvimrc .lvimrc .exrc .nvim.lua .dir-locals.el .dir-locals-2.el .ripgreprc "
        ".ycm_extra_conf.py .clangd .projectile .ccls .project .eslintrc.js .eslintrc.cjs eslint.config.js "
        "eslint.config.mjs eslint.config.cjs .prettierrc.js .prettierrc.cjs prettier.config.js "
        "prettier.config.mjs .stylelintrc.js .rubocop.yml .solargraph.yml"
    ),
    "run by debuggers": ".gdbinit .gdbearlyinit .lldbinit",
    "version managers run what it names": (
        ".tool-versions mise.toml .mise.toml mise.local.toml .mise.local.toml .rtx.toml .sdkmanrc rust-toolchain "
        "rust-toolchain.toml .nvmrc .node-version .python-version .ruby-version .java-version .bazelversion "
        "devbox.json"
    ),
    "settings of build tools": (
        ".bazelrc user.bazelrc .buckconfig .buckconfig.local go.work gradle.properties local.properties .sbtopts "
        ".jvmopts .proverc CMakeUserPresets.json ansible.cfg .ansible-lint .watchmanconfig .swcrc"
    ),
    "read by interpreters when they start": (
        ".Rprofile .Renviron .RData .irbrc .pryrc .rspec .ghci .pythonrc .pythonrc.py .perldb"
    ),
    "development containers run what it names": ".devcontainer.json Vagrantfile .gitpod.yml",
    "run by continuous integration": (
        ".gitlab-ci.yml .travis.yml azure-pipelines.yml bitbucket-pipelines.yml Jenkinsfile .drone.yml "
        ".cirrus.yml appveyor.yml"
    ),
}
_FOLDERS: Final = {
    "tasks and settings of editors": ".vscode .idea .zed .fleet .vs .helix .nvim .vim .emacs.d .settings",
    "settings of coding agents": (
        ".claude .cursor .codex .gemini .qwen .roo .cline .clinerules .windsurf .continue .kiro .junie .amazonq "
        ".augment .opencode .crush .agents .aider .goose"
    ),
    "git hooks": ".husky .githooks .lefthook .git-hooks",
    "settings of build tools": ".cargo .mvn .bundle .yarn .gradle",
    "version managers run what it names": ".mise .rtx .devenv",
    "development containers run what it names": ".devcontainer .vagrant",
    "plugins that build tools run": ".terraform",
    "continuous integration and instructions for coding agents": (
        ".github .gitea .forgejo .circleci .buildkite .woodpecker"
    ),
}
_PATTERNS: Final = {
    r"\.env\..+": "programs that load it into their environment",
    r".+\.(code-workspace|sublime-project)": "tasks and settings of editors",
    r"jupyter(_\w+)?_config\.(py|json)": "run by Jupyter",
    r"(docker-)?compose\.override\.ya?ml": "merged into what Docker Compose starts",
    r"mise\.[\w.-]+\.toml|\.mise\.[\w.-]+\.toml": "version managers run what it names",
    r".+\.(desktop|lnk|url)": "started by file managers",
    r".+\.auto\.tfvars(\.json)?": "settings of build tools",
}
# Files that are known by the folder they are in, too.
_PATHS: Final = {"tools/bazel": "run in the place of Bazel"}

_BY_FILE: Final = {name: reason for reason, names in _FILES.items() for name in names.split()}
_BY_FOLDER: Final = {name: reason for reason, names in _FOLDERS.items() for name in names.split()}
_BY_PATTERN: Final = [(re.compile(pattern), reason) for pattern, reason in _PATTERNS.items()]
_ANY: Final = re.compile("|".join(_PATTERNS))


def file_reason(folder: str, name: str) -> str:
    """Return who acts on a file of this name, or nothing. `folder` is the name of the one it is in."""
    if reason := _BY_FILE.get(name) or _PATHS.get(f"{folder}/{name}"):
        return reason
    if not _ANY.fullmatch(name):
        return ""
    return next(reason for pattern, reason in _BY_PATTERN if pattern.fullmatch(name))


def folder_reason(name: str) -> str:
    """Return who acts on the files below a folder of this name, or nothing."""
    return _BY_FOLDER.get(name, "")
