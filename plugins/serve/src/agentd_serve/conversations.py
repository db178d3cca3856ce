"""Conversations of clients, each with a sandbox of its own: named by a client, begun by a response that may be
continued, or for one request alone."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
from agentd_openai.state import Holder
from agentd_runner.inside.files import remove_tree

from agentd_serve.keys import ServedKey
from agentd_serve.other_api import EitherApiState
from agentd_serve.refusals import RefusedRequestError
from agentd_serve.request_folders import RequestFolders

__all__ = ["ConversationPool", "ServedConversation"]

_log: Final = logging.getLogger("agentd.serve")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LOOK_S: Final = 15.0
_MOST_RESPONSES: Final = 100
"""Responses of one conversation that can be continued: the newest ones."""
_MOST_BYTES: Final = 512 * 1024 * 1024
"""What clients have said in all conversations that are kept."""
_MOST_SPARES: Final = 16
"""Sandboxes of a key that wait for a next request."""

MakeState = Callable[[ServedKey, Path], EitherApiState]


@attrs.frozen
class StoredResponse:
    """A response: the conversation up to its end, its JSON, and bytes of what its request has said and of that."""

    items: Sequence[Any]
    body: bytes
    size_bytes: int


class ServedConversation:
    """One sandbox, and what its requests share.

    :param name: that of its client, or an empty text.
    :param folder: the workspace. Without a name, it ends with the conversation.
    """

    def __init__(self, key: ServedKey, name: str, folder: Path, make: MakeState) -> None:
        self.key = key
        self.name = name
        self.folder = folder
        self.holder = Holder(make(key, folder))
        self.is_busy = False
        self.is_unused = True
        """False once code may have run in it."""
        self.last_used = anyio.current_time()
        self.responses: OrderedDict[str, StoredResponse] = OrderedDict()
        """Those that can be continued, by their ids."""
        self.held_bytes = 0
        """What its clients have said in it."""

    @property
    def state(self) -> EitherApiState:
        """What the facade's calls share."""
        state = self.holder.state
        assert isinstance(state, EitherApiState)
        return state

    async def aclose(self) -> None:
        """End the sandbox. What goes wrong is logged: others go on."""
        state = self.state
        self.holder.finalizer.detach()
        try:
            await state.resources.aclose()
        except Exception:
            _log.exception("the sandbox in %s has not ended as it should", self.folder)
        finally:
            for mode in (state.ptc, state.tools):
                if mode is not None:
                    mode.close()
        if not self.name:
            await _remove(self.folder)


async def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
        return
    except OSError:
        pass
    await anyio.to_thread.run_sync(remove_tree, folder)
    if folder.exists():  # another user's, say
        _log.warning("%s could not be removed", folder)


class ConversationPool:
    """All conversations of a server. An async context manager that ends them.

    :param make: makes what a conversation works with.
    :param root: where their folders are: `sessions/KEY/NAME` of those with names, which stay, `requests/...` of others.
    :param most: how many are kept for later requests; beyond, the one that was not used for longest ends, of the key
        that has the most.
    :param idle_s: one that has served nothing for so long ends.
    """

    def __init__(self, make: MakeState, root: Path, *, most: int, idle_s: float) -> None:
        self._make = make
        self._root = root
        self._folders = RequestFolders(root)
        self._others_live = True
        self._most = most
        self._idle_s = idle_s
        self._named: dict[tuple[str, str], ServedConversation] = {}
        self._kept: set[ServedConversation] = set()
        self._by_response: dict[str, ServedConversation] = {}
        self._ending: set[tuple[str, str]] = set()
        self._spares: dict[str, list[ServedConversation]] = {}  # by the key's name
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> ConversationPool:
        await anyio.to_thread.run_sync(self._folders.open)
        await self._group.__aenter__()
        self._group.start_soon(self._look)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                spares = [one for some in self._spares.values() for one in some]
                for conversation in [*self._kept, *spares]:
                    group.start_soon(self.end, conversation)
            await anyio.to_thread.run_sync(self._folders.close)

    @property
    def count(self) -> int:
        """How many are kept."""
        return len(self._kept)

    # --- one request ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(
        self, key: ServedKey, *, name: str = "", goes_on_from: str = "", keep: bool = False
    ) -> AsyncIterator[ServedConversation]:
        """Have the conversation of a request, for that alone.

        :param name: the client's name for it; `goes_on_from`: the id of a response of it.
        :param keep: a later request may continue it.
        :raises RefusedRequestError: 400 for a name or id that is none, 409 while another request has it.
        """
        found = self._find(key, name, goes_on_from)
        if found is not None and found.is_busy:
            raise _busy(name)
        conversation = found or self._open(key, name)
        conversation.is_busy = True
        if found is None and (keep or name):
            self._kept.add(conversation)
            if name:
                self._named[key.name, name] = conversation
            self._make_room(key)
        try:
            yield conversation
        except BaseException:
            conversation.is_unused = False  # who knows
            raise
        finally:
            conversation.is_busy = False
            conversation.last_used = anyio.current_time()
            if not name and not conversation.responses:
                self._kept.discard(conversation)  # nothing can name it
            elif conversation in self._kept:
                self._make_room(key)  # when it came, all others may have been busy
            if conversation not in self._kept and not self._spare(conversation):
                self._end_soon(conversation)  # not here: its client has its answer, and may ask again

    def _spare(self, conversation: ServedConversation) -> bool:
        """Keep a sandbox in which nothing has run for a next request, which it is as good as new for."""
        spares = self._spares.setdefault(conversation.key.name, [])
        is_taken = conversation.is_unused and not conversation.name and len(spares) < _MOST_SPARES
        if is_taken:
            spares.append(conversation)
        return is_taken

    def _find(self, key: ServedKey, name: str, goes_on_from: str) -> ServedConversation | None:
        if name and not _NAME.fullmatch(name):
            raise RefusedRequestError(
                400,
                f"X-Agentd-Session: must be letters, digits, _ and -, at most 64, got {name[:80]!r}",
                code="invalid_session",
            )
        if (key.name, name) in self._ending:
            raise _busy(name)
        named = self._named.get((key.name, name)) if name else None
        if not goes_on_from:
            return named
        found = self._by_response.get(goes_on_from)
        if found is None or found.key is not key:  # one of another key is none
            raise RefusedRequestError(
                400,
                f"previous_response_id: there is no response {goes_on_from[:80]!r} that can be continued: it was not "
                f"stored, or its conversation was idle for {self._idle_s:g} s; send the whole conversation",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if name and found is not named:
            raise RefusedRequestError(
                400,
                f"X-Agentd-Session: the response {goes_on_from!r} is not of the session {name!r}; leave one out",
                code="invalid_session",
            )
        return found

    def _open(self, key: ServedKey, name: str) -> ServedConversation:
        if not name and (spares := self._spares.get(key.name)):
            return spares.pop()
        folder = self._root / "sessions" / key.name / name if name else self._folders.new()
        return ServedConversation(key, name, folder, self._make)

    def keep_response(
        self,
        conversation: ServedConversation,
        id: str,
        items: Sequence[Any],
        size_bytes: int,
        body: bytes = b"",
    ) -> None:
        """Let later requests go on from a response.

        :param items: the conversation up to its end; `size_bytes`: what its request has said; `body`: its JSON.
        """
        conversation.responses[id] = StoredResponse(items, body, size_bytes + len(body))
        conversation.held_bytes += size_bytes + len(body)
        self._by_response[id] = conversation
        while len(conversation.responses) > _MOST_RESPONSES:
            old, kept = conversation.responses.popitem(last=False)
            conversation.held_bytes -= len(kept.body)  # what it was told is in those that went on from it
            self._by_response.pop(old, None)
        if sum(one.held_bytes for one in self._kept) > _MOST_BYTES:
            self._end_oldest(self._of_key_with_most(lambda one: one.held_bytes))

    def find_response(self, key: ServedKey, id: str) -> StoredResponse | None:
        """Return a response of a key that is kept, or None."""
        found = self._by_response.get(id)
        return None if found is None or found.key is not key else found.responses[id]

    def delete_response(self, key: ServedKey, id: str) -> bool:
        """Forget a response of a key; its conversation ends with the last one unless it has a name. Tell whether there
        was one."""
        kept = self.find_response(key, id)
        if kept is None:
            return False
        conversation = self._by_response.pop(id)
        del conversation.responses[id]
        conversation.held_bytes -= kept.size_bytes
        if not (conversation.responses or conversation.name or conversation.is_busy):
            self._end_soon(conversation)
        return True

    # --- their ends ----------------------------------------------------------------------------------------

    async def end_named(self, key: ServedKey, name: str) -> bool:
        """End the session of a name; its files stay. Tell whether there was one.

        :raises RefusedRequestError: if it is busy.
        """
        found = self._named.get((key.name, name))
        if found is None:
            return False
        if found.is_busy:
            raise _busy(name)
        await self.end(found)
        return True

    async def end(self, conversation: ServedConversation) -> None:
        """End a conversation that serves nothing."""
        self._forget(conversation)
        place = (conversation.key.name, conversation.name)
        if conversation.name:
            self._ending.add(place)
        try:
            with anyio.CancelScope(shield=True):
                await conversation.aclose()
        finally:
            self._ending.discard(place)

    def _forget(self, conversation: ServedConversation) -> None:
        self._kept.discard(conversation)
        if conversation.name:
            self._named.pop((conversation.key.name, conversation.name), None)
        for id in conversation.responses:
            self._by_response.pop(id, None)

    def _make_room(self, key: ServedKey) -> None:
        own = [one for one in self._kept if one.key is key]
        if key.max_conversations is not None and len(own) > key.max_conversations:
            self._end_oldest(own)
        elif len(self._kept) > self._most:
            self._end_oldest(self._of_key_with_most(lambda _: 1))

    def _of_key_with_most(self, size: Callable[[ServedConversation], int]) -> list[ServedConversation]:
        """Return the conversations that serve nothing, of the key whose kept ones are largest: others do not pay."""
        sizes: dict[str, int] = {}
        for one in self._kept:
            sizes[one.key.name] = sizes.get(one.key.name, 0) + size(one)
        idle = [one for one in self._kept if not one.is_busy]
        most = max((one.key.name for one in idle), key=lambda name: sizes[name], default="")
        return [one for one in idle if one.key.name == most]

    def _end_oldest(self, among: Sequence[ServedConversation]) -> None:
        idle = [one for one in among if not one.is_busy]
        if idle:
            self._end_soon(min(idle, key=lambda one: one.last_used))

    def _end_soon(self, conversation: ServedConversation) -> None:
        self._forget(conversation)
        if conversation.name:
            self._ending.add((conversation.key.name, conversation.name))
        self._group.start_soon(self.end, conversation)

    async def _look(self) -> None:
        while True:
            if self._others_live:  # or what a killed one has started still ends
                self._others_live = await anyio.to_thread.run_sync(self._folders.clear)
            await anyio.sleep(min(_LOOK_S, self._idle_s))
            for one in list(self._kept):
                if not one.is_busy and anyio.current_time() - one.last_used > self._idle_s:
                    await self.end(one)
            for spares in list(self._spares.values()):  # a key may come meanwhile
                while spares and anyio.current_time() - spares[0].last_used > self._idle_s:
                    await self.end(spares.pop(0))


def _busy(name: str) -> RefusedRequestError:
    which = f"the session {name!r}" if name else "this conversation"
    return RefusedRequestError(
        409,
        f"{which} serves another request; ask again when that has its answer",
        code="conversation_busy",
        type="conflict_error",
        retry_after_s=1,
    )
