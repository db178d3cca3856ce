"""Keys: what differs from prompt_toolkit's own bindings (those of Emacs and readline)."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from agentd_cli.prompt.lines import continues

__all__ = ["bindings"]


def bindings(interrupt: Callable[[], None]) -> KeyBindings:
    """Return the bindings; `interrupt` is called for Ctrl-C on an empty input."""
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)  # not while searching

    @keys.add("enter", filter=typing)
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None  # the chosen completion stands there already
        elif buffer.document.is_cursor_at_the_end and continues(buffer.text):
            buffer.delete_before_cursor(1)
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("tab", filter=typing)
    def _complete(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
            return
        found = list(
            buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True))
        )
        if len(found) == 1:
            buffer.apply_completion(found[0])  # now: a menu comes later than the next key
        elif found:
            buffer.start_completion(insert_common_part=True)

    @keys.add("c-c", filter=typing)
    def _interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            interrupt()

    return keys
