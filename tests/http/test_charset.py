"""An answer's text is read by the charset that it names, unless that is none for texts, or would take its time."""

from __future__ import annotations

import encodings
from collections.abc import Callable

import pytest
import trio
from test_pool import Peer, served

from trioworkers.http.charset import is_followed

WORDS = "grün, 緑"


def named(charset: bytes, body: bytes) -> Callable[[Peer, trio.SocketStream], object]:
    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=%b\r\nContent-Length: %d\r\n\r\n"
        await stream.send_all(head % (charset, len(body)) + body)

    return answer


UNFIT = ["zlib", "zlib_codec", "bz2", "hex", "base64", "uu", "quopri", "rot13", "rot_13", "idna", "undefined"]
UNFIT += ["punycode", "PUNYCODE", "unicode_escape", "unicode-escape", "raw-unicode-escape", "mbcs", "aliases"]
UNFIT += ["utf--8", "utf.8", ".", "..", "os", "utf-8\x00", "ütf-8", "x" * 50_000, "nobody-s"]


@pytest.mark.parametrize("charset", UNFIT, ids=lambda name: repr(name)[:20])
async def test_what_is_no_charset_for_texts_is_not_followed(charset: str):
    body = WORDS.encode()
    async with served(named(charset.encode("latin-1").replace(b"\0", b""), body)) as (_, url, client):
        assert (await client.get(url)).text == WORDS
    assert not is_followed(charset)


@pytest.mark.parametrize(
    "charset",
    [
        "utf-8",
        "UTF-8",
        "utf8",
        "utf_8",
        "utf-8-sig",
        "utf-16",
        "utf-32",
        "gb18030",
        "GB2312",
        "big5",
        "euc-jp",
        "Shift_JIS",
    ],
)
async def test_charsets_of_the_web_are_followed(charset: str):
    words = "日本"
    async with served(named(charset.encode(), words.encode(charset))) as (_, url, client):
        assert (await client.get(url)).text == words


@pytest.mark.parametrize(
    "charset", ["iso-8859-1", "latin1", "windows-1252", "cp1252", "ISO-8859-15", "us-ascii", "koi8-r"]
)
def test_charsets_of_one_byte_are_followed(charset: str):
    assert is_followed(charset)


async def test_names_that_servers_make_up_are_not_kept():
    made_up = [f"made-up-{n}" for n in range(20)]
    before = len(encodings._cache)  # type: ignore[attr-defined]
    for charset in made_up:
        async with served(named(charset.encode(), b"text")) as (_, url, client):
            assert (await client.get(url)).text == "text"
    assert len(encodings._cache) == before  # type: ignore[attr-defined]
