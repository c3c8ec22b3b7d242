"""The shorter way to a request and from its answer: nobody can tell it from httpx's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.http.bounds import BoundedResponse
from trioworkers.http.http1 import _head
from trioworkers.http.outgoing import announced_length, encode_head
from trioworkers.http.plain_request import PlainRequest
from trioworkers.http.target import Target, parsed, target_of

DEFAULTS = ((b"Accept", b"*/*"), (b"User-Agent", b"us"))
texts = st.text(st.characters(max_codepoint=255), max_size=12).map(lambda text: text.encode("latin-1"))
names = st.one_of(st.sampled_from([b"X", b"accept", b"Content-Type"]), texts).filter(
    lambda name: name.lower() not in {b"host", b"content-length", b"transfer-encoding"}
)


def plain(
    method: str = "POST",
    url: str = "http://h/p?q=1",
    own: tuple[tuple[bytes, bytes], ...] = ((b"X", b"y"),),
    body: bytes = b"hello",
) -> PlainRequest:
    return PlainRequest(method, parsed(url), DEFAULTS, own, body, {"read": 1.0})


@given(
    method=st.one_of(st.sampled_from(["GET", "post", "CONNECT"]), st.text(max_size=5)),
    url=st.sampled_from(["http://h/", "https://h:70000/a b", "http://ü.example:8080/ä?b=c", "http://[::1]/"]),
    own=st.lists(st.tuples(names, texts), max_size=3).map(tuple),
    body=st.binary(max_size=5),
)
def test_head_is_what_is_made_of_its_headers(
    method: str, url: str, own: tuple[tuple[bytes, bytes], ...], body: bytes
) -> None:
    def outcome(make: Callable[[httpx.Request], object]) -> object:
        try:
            return make(plain(method, url, own, body))
        except httpx.LocalProtocolError as error:
            return str(error)

    def by_headers(request: httpx.Request) -> tuple[bytes, int | None]:
        assert request.headers  # looked at
        head = encode_head(request)
        return head, announced_length(request, head)

    assert outcome(_head) == outcome(by_headers)


def test_head_is_what_httpx_says_for_the_same() -> None:
    headers = [*DEFAULTS, (b"X", b"y")]
    usual = httpx.Request("POST", "http://h/p?q=1", headers=headers, content=b"hello")
    assert _head(plain()) == (encode_head(usual), 5)
    assert (plain().headers, plain().content, plain().method) == (usual.headers, usual.content, usual.method)


CHANGES: dict[str, tuple[Callable[[PlainRequest], Any], bytes]] = {
    "a header": (lambda request: request.headers.update({"traceparent": "00"}), b"traceparent: 00\r\n"),
    "all headers": (
        lambda request: setattr(request, "headers", httpx.Headers({"Host": "other", "Content-Length": "5"})),
        b"Host: other\r\n",
    ),
    "the method": (lambda request: setattr(request, "method", "PUT"), b"PUT /p"),
    "the URL": (lambda request: setattr(request, "url", httpx.URL("http://h/elsewhere")), b"POST /elsewhere "),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=CHANGES)
def test_what_somebody_changed_goes_out(change: Callable[[PlainRequest], Any], found: bytes) -> None:
    request = plain()
    change(request)
    assert found in _head(request)[0]


def test_another_body_than_announced_is_not_sent() -> None:
    request = plain()
    request.stream = httpx.ByteStream(b"more than that")
    with pytest.raises(httpx.LocalProtocolError, match="announces 5 bytes and has 14"):
        _head(request)


def test_target_counts_only_for_its_own_url() -> None:
    request = plain(url="http://h/")
    assert target_of(request) is parsed("http://h/")
    request.url = httpx.URL("http://other/")
    assert target_of(request).origin == ("http", "other", 80)
    assert target_of(httpx.Request("GET", "https://Some.Host./")).host == "some.host"


@pytest.mark.parametrize("url", ["/relative", "http://user:secret@h/", "mailto:somebody"])
def test_url_that_needs_more_is_not_plain(url: str) -> None:
    assert not Target.of(httpx.URL(url)).is_plain


async def test_answer_that_came_whole_is_httpxs() -> None:
    fields = [(b"X", b"1"), (b"x", b"2"), (b"Content-Type", b"text/plain; charset=latin-1")]
    response = BoundedResponse.came_whole(200, fields, b"\xe4", {})
    response.request = plain()
    assert (await response.aread(), response.text, response.num_bytes_downloaded) == (b"\xe4", "ä", 1)
    assert response.headers.get_list("x") == ["1", "2"]
    assert [chunk async for chunk in response.aiter_bytes()] == [b"\xe4"]
    with pytest.raises(httpx.StreamConsumed):
        _ = [chunk async for chunk in response.aiter_raw()]
    # It may travel to another process, with its request.
    again = pickle.loads(pickle.dumps(response))
    assert (again.content, again.headers, again.request.headers) == (b"\xe4", response.headers, plain().headers)
    assert (again.request.url, again.request.content) == (plain().url, b"hello")
