"""Ten tools as a program has them, the same for all sides; `echo` and `same` are called. Standard library only."""

from __future__ import annotations

__all__ = ["TEN", "echo", "same"]


def echo(x: int) -> int:
    """Give back what it got.

    Args:
        x: Any number.
    """
    return x


def same(x: str) -> str:
    """Give back a text.

    Args:
        x: Any text.
    """
    return x


def create_issue(owner: str, repository: str, title: str, body: str = "") -> dict[str, str]:
    """Create an issue of a repository and return its number, state, author and address.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        title: One line that says what is wrong.
        body: The rest, as Markdown.
    """
    return {"number": "1", "title": title}


def list_issues(owner: str, repository: str, state: str = "open", limit: int = 30) -> list[dict[str, str]]:
    """List the issues of a repository with their numbers, states, authors and addresses.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        state: One of open, closed and all.
        limit: Results for a page, 1 to 100.
    """
    return [{"number": "1"}]


def update_issue(owner: str, repository: str, number: int, state: str) -> dict[str, str]:
    """Change the state of an issue and return it. Needs write access.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        number: The issue's number.
        state: One of open and closed.
    """
    return {"number": str(number), "state": state}


def list_branches(owner: str, repository: str, limit: int = 30) -> list[str]:
    """List the names of a repository's branches, the newest first.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        limit: Results for a page, 1 to 100.
    """
    return ["main"]


def read_file(owner: str, repository: str, path: str, branch: str = "main") -> str:
    """Read a text file of a repository.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        path: The file's path inside the repository.
        branch: A branch, tag or commit.
    """
    return path


def search_code(query: str, language: str = "", limit: int = 30) -> list[dict[str, str]]:
    """Search the code of all repositories and return paths and lines.

    Args:
        query: Words that must all occur.
        language: A language to search alone, or nothing.
        limit: Results for a page, 1 to 100.
    """
    return [{"path": "a.py"}]


def create_comment(owner: str, repository: str, number: int, body: str) -> dict[str, str]:
    """Comment on an issue and return the comment's address. Needs write access.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        number: The issue's number.
        body: The comment, as Markdown.
    """
    return {"number": str(number)}


def list_releases(owner: str, repository: str, with_drafts: bool = False) -> list[dict[str, str]]:
    """List the releases of a repository with their tags, dates and notes.

    Args:
        owner: The account that owns the repository.
        repository: The repository's name without its owner.
        with_drafts: Whether those that are not published are listed, too.
    """
    return [{"tag": "v1"}]


TEN = (
    echo,
    same,
    create_issue,
    list_issues,
    update_issue,
    list_branches,
    read_file,
    search_code,
    create_comment,
    list_releases,
)
