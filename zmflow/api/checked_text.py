"""Is this a text that can name something? The check made when a name is given."""

from __future__ import annotations

from zmflow.errors import JobGraphError

__all__ = ["checked_text"]


def checked_text(text: str, call: str) -> str:
    """The text, if plans can show it and messages can carry it.

    Raises:
        JobGraphError: it is empty, no text, or cannot be written as UTF-8; names the ``call``.
    """
    if not isinstance(text, str) or not text.strip():
        raise JobGraphError(f"{call} takes a text that is not empty, not {text!r}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise JobGraphError(
            f"{call} takes a text that UTF-8 can write, not {text!r}.", detail=str(error)
        ) from None
    return text
