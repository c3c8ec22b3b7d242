"""As much of a browser as it takes to press a button: cookies, forms, redirects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, Request, build_opener

import attrs

Field = tuple[str, str]
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says when a page's own form is sent; Sidekiq from 8 on goes by this instead of a token."""


@attrs.define
class Button:
    """A button: what it sends, and where, if not where its form leads."""

    field: Field
    action: str


@attrs.define
class Form:
    """A form of a page: where it leads, what it sends by itself, its boxes to tick and its buttons."""

    action: str
    hidden: list[Field] = attrs.field(factory=list)
    boxes: list[Field] = attrs.field(factory=list)
    buttons: list[Button] = attrs.field(factory=list)


class _Forms(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        field = given.get("name", ""), given.get("value", "")
        kind = given.get("type", "")
        if tag == "form":
            self.found.append(Form(given.get("action", "")))
        elif tag in ("input", "button") and kind == "submit":
            self.found[-1].buttons.append(Button(field, given.get("formaction", "")))
        elif tag == "input" and kind == "hidden":
            self.found[-1].hidden.append(field)
        elif tag == "input" and kind == "checkbox" and field[0]:
            self.found[-1].boxes.append(field)


class Browser:
    """One visitor of `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def _send(self, path: str, fields: Iterable[Field] | None, headers: dict[str, str]) -> tuple[int, str]:
        body = None if fields is None else urlencode(list(fields)).encode()
        request = Request(urljoin(self._root, path), body, headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return 200, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def _open(self, path: str, fields: Iterable[Field] | None = None) -> str:
        status, page = self._send(path, fields, SAME_SITE)
        assert status == 200, f"{path}: {status}: {page[:2000]}"
        return page

    def look(self, path: str) -> str:
        """The page at `path`. A page that can't be shown fails the test."""
        return self._open(path)

    def press(
        self,
        path: str,
        button: str,
        *,
        to: str = "",
        within: Callable[[Form], bool] = lambda _: True,
        tick: Iterable[str] = (),
    ) -> str:
        """On the page at `path`, tick the boxes whose value contains one of `tick`, then press the button of that name.

        `to`: instead of by name, the button is known by where it leads. `within`: which of the page's forms. Returns the page that comes.
        """
        for form in _Forms(self.look(path)).found:
            for each in form.buttons:
                target = each.action or form.action or path
                if within(form) and (target.endswith(to) if to else each.field[0] == button):
                    ticked = [box for box in form.boxes if any(text in box[1] for text in tick)]
                    assert len(ticked) == len(list(tick)), f"{path}: no box for {tick}"
                    return self._open(target, [*form.hidden, *ticked, each.field])
        raise AssertionError(f"{path} has no button {button!r}")

    def forge(self, path: str, *fields: Field) -> int:
        """Send a form that no page of ours offered; the status of the answer."""
        return self._send(path, fields, {"Sec-Fetch-Site": "cross-site"})[0]
