"""The pictures of one session: what code and tools have shown, on its way to the model."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd import events
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError, MissingPluginError
from agentd.protocols import PartsModel, ToolReply
from agentd.turn.transcript import Message, Transcript
from agentd.types import Blob
from agentd_history.pictures import files_of
from agentd_tools.blobs import SIGN, decode_json
from agentd_tools.calling import current_call

from agentd_images.folder import PictureFolder
from agentd_images.picture import PictureError, ShownPicture
from agentd_images.reading import MIB, read_picture
from agentd_images.settings import Images
from agentd_images.showing import PictureSight
from agentd_images.source import PictureSource
from agentd_images.store import PictureStore

if TYPE_CHECKING:
    from agentd.protocols import Executor, Model, ToolSource

__all__ = ["SessionPictures", "create_pictures"]

log = logging.getLogger("agentd.images")

_WAITING_BYTES: Final = 64 * MIB  # of replies that wait to be looked at


def create_pictures(images: object, host: Any) -> SessionPictures:
    """Return what shows a session's model pictures; sessions call it.

    :param images: True, or an `Images`.
    :param host: the session's `SessionResources`.
    :raises ConfigError: for anything else.
    """
    if images is not True and not isinstance(images, Images):
        raise ConfigError(f"images: must be True, False or an agentd.Images, got {images!r}")
    return SessionPictures(Images() if images is True else images, host)


@attrs.define
class _WaitingReplies:
    """What code and tools have shown since the model was last told."""

    replies: list[tuple[str, bytes]] = attrs.field(factory=list)  # action, reply
    size: int = 0
    left_out: int = 0


class SessionPictures:
    """Takes pictures out of replies of tools, keeps them, and says which there are; see `create_pictures`."""

    def __init__(self, images: Images, host: Any) -> None:
        self.images = images
        self.source = PictureSource(images, self._code_comes, self._has_room, self.aclose)
        self._host = host
        self._store = PictureStore(host.workspace)
        self._store.folder.hold()
        self.timelines: list[Any] = []
        """Checkpoints of the session: what they refer to is not cleared away."""
        self._has_code = False
        self._blind: set[tuple[str, str]] = set()
        self.keeps_runs_apart = False
        """True if runs belong to different conversations: what one has shown, no other one is told."""
        self._waiting: dict[str, _WaitingReplies] = {}  # by the run whose code or calls they are of
        self._lock = threading.Lock()

    def over(self, open_model: Callable[[], Model]) -> Model:
        """Return a model that shows one of `open_model` the pictures, or tells it their lines."""
        from agentd_images.model import SeeingModel

        model = open_model()
        sight = self.sight(model.name, takes_parts=isinstance(model, PartsModel))
        return SeeingModel(model, sight, self.aclose)

    def sight(self, model: str, *, takes_parts: bool, where: str = "") -> PictureSight:
        """Return what decides how a model of this name is shown pictures; see `PictureSight`."""
        self._store.folder.hold()
        return PictureSight(
            model, self._store, self.images, takes_parts=takes_parts, blind=self._blind, where=where
        )

    def _code_comes(self) -> None:
        self._has_code = True

    @property
    def _executor(self) -> Executor | None:
        """What writes files where code finds them; a session without code has none."""
        return self._host.executor if self._has_code else None

    # --- from tools ------------------------------------------------------------------------------------

    def watching(
        self, source: ToolSource | None, action_id: str, reply: Callable[[ToolReply], None]
    ) -> Callable[[ToolReply], None]:
        """Return what takes the reply of a call that begins. From any thread."""

        def take(answer: ToolReply) -> None:
            if answer.ok and SIGN in answer.payload:
                self._take(action_id, answer.payload)
                if source is self.source:  # code has the picture already
                    answer = ToolReply(True, b"null")
            reply(answer)

        return take

    def _has_room(self) -> bool:
        """Tell whether one more picture would be shown, and count it if not: then it need not be decoded."""
        call = current_call.get()
        with self._lock:
            waiting = self._waiting_of("" if call is None else call.action_id)
            has_room = len(waiting.replies) < self.images.max_pictures
            waiting.left_out += not has_room
            return has_room

    def _take(self, action_id: str, payload: bytes) -> None:
        with self._lock:
            waiting = self._waiting_of(action_id)
            is_full = len(waiting.replies) >= self.images.max_pictures
            if is_full or sum(w.size for w in self._waiting.values()) + len(payload) > _WAITING_BYTES:
                waiting.left_out += 1
            else:
                waiting.size += len(payload)
                waiting.replies.append((action_id, payload))

    def _waiting_of(self, action_id: str) -> _WaitingReplies:
        run = action_id.partition("_")[0]
        if run not in self._waiting and self.keeps_runs_apart:
            for over in self._waiting.keys() - self._host.transcripts.keys():  # cut short, and never told
                del self._waiting[over]
        return self._waiting.setdefault(run, _WaitingReplies())

    def _pop_waiting(self, run: str) -> _WaitingReplies:
        """Take what a run has shown; behind what those have that are over, unless runs are kept apart."""
        taken = _WaitingReplies()
        with self._lock:
            over = set() if self.keeps_runs_apart else self._waiting.keys() - self._host.transcripts.keys()
            for name in [*(n for n in self._waiting if n in over and n != run), run]:
                waiting = self._waiting.pop(name, None)
                if waiting is not None:
                    taken.replies += waiting.replies
                    taken.left_out += waiting.left_out
        return taken

    async def news(self, run: str, actions: Sequence[str]) -> list[str]:
        """Return the lines of the pictures that were shown since the last time, and tell those who watch.

        :param run: the one that is told. What one has shown that was cut short, the next one is told, unless runs are
            kept apart.
        :param actions: those of the round that is over, in the order of their results.
        """
        waiting = self._pop_waiting(run)
        if not (waiting.replies or waiting.left_out):
            return []
        order = {action: place for place, action in enumerate(actions)}
        waiting.replies.sort(key=lambda reply: order.get(reply[0], -1))  # native calls end in any order
        found, left_out = await call_in_thread(partial(self._read, waiting.replies))
        left_out += waiting.left_out
        notes: list[str] = []
        number = 0
        for action, picture in found:
            if isinstance(picture, PictureError):
                notes.append(f"not shown: {picture}")
                continue
            number += 1
            where = f" of result {order[action] + 1}" if len(actions) > 1 and action in order else ""
            notes.append(picture.line(f"picture {number}{where}"))
            notes += await self._keep(picture, action)
        if left_out:
            most = f"at most {self.images.max_pictures} after one answer"
            notes.append(f"{left_out} more pictures were left out: {most}; show the ones that matter again")
        return notes

    def _read(
        self, replies: list[tuple[str, bytes]]
    ) -> tuple[list[tuple[str, ShownPicture | PictureError]], int]:
        """Return the pictures in replies, each once, or what is wrong with them, and how many are too many."""
        found: dict[str, tuple[str, ShownPicture | PictureError]] = {}
        left_out = 0
        for action, payload in replies:
            for blob in _pictures_in(decode_json(payload)):
                if len(found) >= self.images.max_pictures:
                    left_out += 1
                    continue
                try:
                    picture = read_picture(blob, blob.uri or "picture", self.images)
                    found.setdefault(picture.file, (action, picture))
                except PictureError as error:
                    found[str(error)] = (action, error)
        return list(found.values()), left_out

    async def _keep(self, picture: ShownPicture, action: str) -> list[str]:
        """Keep a picture and tell those who watch; return a note if it has no file."""
        wrong = await self._store.keep(picture, self._executor)
        event = events.Picture(
            name=picture.name,
            path="" if wrong else str(self._host.workspace / picture.path),
            mime_type=picture.mime_type,
            width=picture.width,
            height=picture.height,
            size_bytes=len(picture.data),
            code_id=action,
        )
        self._host.tell(event)
        return [f"that file could not be written: {wrong}"] if wrong else []

    # --- the end, and other workspaces -----------------------------------------------------------------

    async def aclose(self) -> None:
        """Let go of the folder, and clear it if nobody else needs it. The session may go on all the same."""
        folder, images = self._store.folder, self.images

        def clear() -> None:
            folder.release()
            folder.clear(max_files=images.max_kept, max_bytes=images.max_kept_mib * MIB, needed=self._needed)

        try:
            await call_in_thread(clear)
        except AgentdError as error:  # of checkpoints that cannot be read
            log.warning("old pictures were not cleared away: %s", error)

    def _needed(self) -> set[str]:
        """Return the files that checkpoints refer to: those of this session, and those at their usual place."""
        timelines = list(self.timelines)
        try:
            timelines.append(
                self._host.registry().create_timeline(
                    resources=self._host,
                    transcript=Transcript(),
                    store="packs",
                    base_dir=None,
                    has_code=False,
                )
            )
        except MissingPluginError:  # so there are none
            pass
        return {
            file
            for timeline in timelines
            for transcript in getattr(timeline, "transcripts", list)()
            for file in files_of(transcript)
        }

    async def copy_to(self, workspace: Path, transcript: Transcript) -> None:
        """Put the pictures of a conversation into another workspace, in which a fork goes on."""
        files = files_of(transcript)
        if files:
            await call_in_thread(partial(self._store.copy_to, PictureFolder(workspace), files))

    # --- in tasks --------------------------------------------------------------------------------------

    async def kept(self, task: Message) -> Message:
        """Return a task in which each picture that came along is a line of text; it is kept, and shown by that line.

        Pictures that are given by an address stay as they are, and what cannot be read is the provider's to judge.
        """
        parts: list[dict[str, Any]] = []
        number = 0
        for part in task.parts:
            picture = await call_in_thread(partial(self._picture_of, part))
            if picture is not None:
                number += 1
                await self._store.keep(picture, self._executor)
                part = {"type": "text", "text": f"[{picture.line(f'picture {number} of the task')}]"}
            parts.append(part)
        if not number:
            return task
        texts = [str(p["text"]) if p["type"] == "text" else f"[{p['type']}]" for p in parts]
        is_text = all(p["type"] == "text" for p in parts)
        return attrs.evolve(task, content="\n".join(texts), parts=() if is_text else tuple(parts))

    def _picture_of(self, part: dict[str, Any]) -> ShownPicture | None:
        import binascii

        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if part["type"] != "image_url" or not isinstance(url, str) or not url.startswith("data:"):
            return None
        head, _, data = url.partition(",")
        try:
            if ";base64" not in head:
                return None
            return read_picture(binascii.a2b_base64(data), getattr(url, "name", "") or "picture", self.images)
        except (PictureError, ValueError):
            return None


def _pictures_in(value: Any) -> Iterable[Blob]:
    """Yield the pictures in a result, in their order."""
    if isinstance(value, Blob):
        if value.mime_type.startswith("image/"):
            yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _pictures_in(part)
