"""The state of the shell: what one bash block leaves to the next."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any

    DeclaredLine = tuple[str, str, str, str | None]  # as it is printed; flags, name, value


MAX_STATE = 1 << 20  # bytes: each later block pays for them
# How one block wants to fail and to be traced is not carried over: a later `grep` without a hit would end its block
# without a word. Nor is what would stop every later block from running, or only describes how the shell was started.
_NOT_CARRIED = {
    *("errexit", "nounset", "xtrace", "verbose", "noexec", "onecmd"),
    *("interactive-comments", "privileged", "history", "histexpand"),
}
_DEFAULT_ON = ("braceexpand", "hashall")
_READ_ONLY_SHOPTS = frozenset(("login_shell", "restricted_shell"))


# Variables that bash itself sets, which say nothing of the code, and ours.
_BASH_OWN = {
    *(
        "_",
        "BASH",
        "BASHOPTS",
        "BASHPID",
        "BASH_ALIASES",
        "BASH_ARGC",
        "BASH_ARGV",
        "BASH_ARGV0",
        "BASH_CMDS",
    ),
    *("BASH_COMMAND", "BASH_EXECUTION_STRING", "BASH_LINENO", "BASH_LOADABLES_PATH", "BASH_MONOSECONDS"),
    *("BASH_REMATCH", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_TRAPSIG", "BASH_VERSINFO", "BASH_VERSION"),
    *(
        "COMP_WORDBREAKS",
        "DIRSTACK",
        "EPOCHREALTIME",
        "EPOCHSECONDS",
        "EUID",
        "FUNCNAME",
        "GROUPS",
        "HISTCMD",
    ),
    *(
        "HOSTNAME",
        "HOSTTYPE",
        "LINENO",
        "MACHTYPE",
        "OPTERR",
        "OPTIND",
        "OSTYPE",
        "PIPESTATUS",
        "PPID",
        "PS4",
    ),
    *("RANDOM", "SECONDS", "SHELLOPTS", "SRANDOM", "UID", "AGENTD_OUTPUT"),
}
_OURS = ("AGENTD_TOOLS_", "__agentd_")
_IFS = "$' \\t\\n'"
# One line of `declare -p` or `declare -xF`, which may go over several: flags, name and value. Nothing is tried twice
# (`++`): the text is code's own.
_QUOTED = r""""(?:[^"\\]++|\\.)*+"|\$?'(?:[^'\\]++|\\.)*+'"""
_DECLARED = rf"""declare -([-\w]+) (\w+)(?:=({_QUOTED}|\((?:[^()"'$\\]++|{_QUOTED}|\\.|\$)*+\)))?\n"""


class ShellState:
    """What one bash block leaves to the next, apart from the base environment.

    So it fits another session, which has a base of its own, and holds none of the values that the user passed.
    `source` are variables and functions as bash source, `unset` the names of the base that are exported no more.
    """

    def __init__(self, source: str, options: str, shopts: str, unset: list[str]) -> None:
        self.source = source
        self.options = options.split(":")
        self.shopts = [name for name in shopts.split(":") if name and name not in _READ_ONLY_SHOPTS]
        self.unset = unset

    @classmethod
    def of_saved(cls, source: str, options: str, shopts: str, base: dict[str, str]) -> ShellState:
        """Return the state of what bash has saved."""
        kept, seen = [], set()
        lines, rest = _plain_lines(source) or _matched_lines(source)
        for line, flags, name, value in lines:
            if "x" in flags:
                seen.add(name)
            if "f" in flags or not _is_of_base(flags, name, value, base):
                kept.append(line)
        unset = sorted(filter(is_bash_name, base.keys() - seen))
        return cls("".join(kept) + rest, options, shopts, unset)

    def plain(self) -> dict[str, Any]:
        """Return the state as plain data: what the initializer takes."""
        return {
            "source": self.source,
            "options": ":".join(self.options),
            "shopts": ":".join(self.shopts),
            "unset": self.unset,
        }

    def switches(self) -> str:
        """The `set` options. They stand in front of the code itself: they would change our own commands."""
        on = [f"builtin set -o {name}; " for name in self.options if name and name not in _NOT_CARRIED]
        off = [f"builtin set +o {name}; " for name in _DEFAULT_ON if name not in self.options]
        return "".join(on + off)

    def restore(self) -> str:
        # First the `shopt` options: with extglob, functions parse differently.
        first = f"shopt -s {' '.join(self.shopts)}\n" if self.shopts else ""
        gone = f"unset -v {' '.join(self.unset)}\n" if self.unset else ""
        return first + gone + self.source


class SessionShell:
    """The shell's state and directory as the next bash block finds them."""

    def __init__(self) -> None:
        self.workspace = self.cwd = ""
        self.state: ShellState | None = None
        self.made: dict[tuple[str, str, str], ShellState] = {}  # by what bash had saved
        self.order = 0  # counts actions, and replacements of the state
        self.state_order = 0

    def begin_in(self, workspace: str) -> None:
        self.workspace = self.cwd = workspace

    def next_order(self) -> int:
        self.order += 1
        return self.order

    def keep_saved(self, saved: tuple[str, str, str, str], order: int, base: dict[str, str]) -> None:
        """The state of the latest block, in the order written, is the one that the next bash starts from."""
        if order > self.state_order:
            self.cwd = saved[3]
            self.state_order = order
            self.state = self.made.get(saved[:3]) or self.make_state(saved[:3], base)

    def make_state(self, saved: tuple[str, str, str], base: dict[str, str]) -> ShellState:
        """Read what bash has saved. That of the newest blocks is remembered: most say the same as the one before or the
        one before that, as two supervisors take turns and each has a PPID of its own."""
        if len(self.made) > 1:
            del self.made[next(iter(self.made))]
        state = self.made[saved] = ShellState.of_saved(*saved, base)
        return state

    def base_changes(self) -> None:
        """The base environment is another one: what was made with the old one does not count."""
        self.made.clear()

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data: what a SHELL frame carries."""
        state = self.state.plain() if self.state is not None else {"source": None}
        return {"workspace": self.workspace, "cwd": self.cwd, **state}

    def replace_state(self, given: dict[str, Any] | None) -> None:
        """Take a state that `plain` gave, maybe of another workspace; None for a fresh shell."""
        self.state_order = self.next_order()
        if given is None:
            self.state, self.cwd = None, self.workspace
            return
        import re

        here = re.compile(re.escape(given["workspace"]) + r"(?![\w.-])")

        def moved(text: str) -> str:
            return str(here.sub(lambda _: self.workspace, text))

        self.cwd = moved(given["cwd"])
        if given["source"] is None:
            self.state = None
        else:
            self.state = ShellState(moved(given["source"]), given["options"], given["shopts"], given["unset"])


def _matched_lines(source: str) -> tuple[list[DeclaredLine], str]:
    """Return what `declare` has printed, and what behind it is not of this form."""
    import re

    line = re.compile(_DECLARED, re.DOTALL)
    lines, position = [], 0
    while found := line.match(source, position):
        position = found.end()
        flags, name, value = found.groups()
        lines.append((found[0], flags, name, value))
    return lines, source[position:]


def _plain_lines(source: str) -> tuple[list[DeclaredLine], str] | None:
    """The same if each declaration is one simple line, as of most blocks; else None.

    For all others `re` has to be imported, which takes as long as a block.
    """
    *lines, rest = source.split("\n")
    read = [_plain_line(line) for line in lines]
    if rest or None in read:
        return None
    return [line for line in read if line is not None], ""


def _plain_line(line: str) -> DeclaredLine | None:
    word, _, declared = line.partition(" ")
    flags, _, declared = declared.partition(" ")
    name, equals, value = declared.partition("=")
    letters = flags[1:].replace("-", "_")
    if word != "declare" or flags[:1] != "-" or not letters.isidentifier() or not name.isidentifier():
        return None
    if equals and value != _IFS and not _is_plain_text(value) and not _is_plain_list(value):
        return None
    return f"{line}\n", flags[1:], name, value if equals else None


def _is_plain_text(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"' and value.count('"') == 2 and "\\" not in value


def _is_plain_list(value: str) -> bool:
    between = value[1:-1].split('"')[::2]
    return (
        value[:1] == "("
        and value[-1:] == ")"
        and value.count('"') % 2 == 0
        and not set("()'$\\") & set("".join(between))
        and "\\" not in value
    )


def _is_of_base(flags: str, name: str, value: str | None, base: dict[str, str]) -> bool:
    """Tell whether a fresh bash has this variable, too."""
    own = name in _BASH_OWN or (name.startswith(_OURS) and name not in _OURS)
    if own or (name == "IFS" and value == _IFS):
        return True
    return flags == "x" and name in base and value == _as_bash_prints(base[name])


def is_bash_name(name: str) -> bool:
    """Other names are no variables in bash, and would be read as code."""
    return name.isascii() and name.isidentifier()


def _as_bash_prints(value: str) -> str:
    """Return how `export -p` shows a value, unless it holds control characters."""
    for special in '\\"$`':
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'
