"""Why an object store refused, in one line for a person."""

from __future__ import annotations

import re

__all__ = ["hint_for", "reason_of"]

REASON_CHARACTERS_MAX = 400
"""A sentence of a server with its address and code has some 200."""


def reason_of(error: BaseException) -> str:
    """What the client says, without its debugging output, markup and the queries of addresses.

    >>> reason_of(OSError("PUT http://h/b?sig=1: <Error><Code>NoSuchBucket</Code></Error>"))
    'PUT http://h/b: NoSuchBucket'
    """
    text = str(error).partition("\n\nDebug source")[0]
    text = re.sub(r"\?[^\s:<]*", "", text)  # signatures are in there
    text = re.sub(r"<(RequestId|HostId)>[^<]*<[^>]*>|<[^>]*>", " ", text)
    text = " ".join(text.split()).rstrip(".") or type(error).__name__
    return text if len(text) <= REASON_CHARACTERS_MAX else text[:REASON_CHARACTERS_MAX] + "…"


def hint_for(error: BaseException) -> str | None:
    """What to do about it, where that can be told."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
        return "Does the bucket exist, and is the checkpoint still in it?"
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return "Give the process credentials that may do this, by its environment or the machine's role."
    if "error sending request" in text or "timed out" in text:
        return "Is the server up, and can this machine reach it?"
    return None
