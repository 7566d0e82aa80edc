"""Pages of lists, page tokens and etags.

A page token says where to go on and in which list; it is opaque, but holds nothing secret. Lists
change while they are paged through: what stays throughout is returned exactly once.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from netagent.model.errors import ConflictError, InvalidError

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
TOKEN_MAX = 1_000

_Value = TypeVar("_Value")


def check_page_size(page_size: int) -> int:
    """Return how many to return at most; InvalidError when the caller asks for too many."""
    if page_size > PAGE_SIZE_MAX:
        raise InvalidError("page_size", f"{page_size} is more than {PAGE_SIZE_MAX}")
    return page_size or PAGE_SIZE_DEFAULT


def read_page_token(token: str, *query: str) -> str:
    """Return the name after which the page begins; empty for the first page.

    query: name of the list and its filters; a token of another query is an InvalidError.
    """
    if not token:
        return ""
    if len(token) > TOKEN_MAX:
        raise InvalidError("page_token", "is not one that this server made")
    try:
        *of_query, after = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidError("page_token", "is not one that this server made") from error
    if of_query != list(query) or not isinstance(after, str) or not after:
        raise InvalidError("page_token", "belongs to another list; begin again without it")
    return after


def take_page(
    entries: Iterable[tuple[str, _Value]], page_size: int, *query: str
) -> tuple[list[_Value], str]:
    """Return one page of entries (name, value) and the token of the next; empty on the last."""
    page = list(islice(entries, page_size + 1))
    is_last = len(page) <= page_size
    page = page[:page_size]
    token = "" if is_last else json.dumps([*query, page[-1][0]], separators=(",", ":"))
    return [value for _, value in page], base64.urlsafe_b64encode(token.encode()).decode()


def make_etag(revision: int) -> str:
    """Return the etag of a record that last changed at a revision."""
    return f"{revision:x}"


def check_etag(etag: str, revision: int, what: str) -> None:
    """Raise ConflictError when the caller gave an etag and it is not the record's."""
    if etag and etag != make_etag(revision):
        raise ConflictError(f"etag: {what} has changed since it was read; read it again")
