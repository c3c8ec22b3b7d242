"""Where the primary is now, for clients without Trio: Sentinels are asked one after the other, until more than half of them agree."""

from __future__ import annotations

import socket
import time

import attrs

from trioworkers.broker.redis.reasons import unreachable
from trioworkers.errors import Unreachable
from trioworkers.printable import on_one_line
from trioworkers.redis_url import RedisUrl, Sentinels, Tls
from trioworkers.tls_context import tls_context
from trioworkers.wire.resp import NoReply, Reply, read_replies
from trioworkers.wire.sentinel import (
    ADVICE,
    ANSWER_WITHIN_S,
    FIRST_ANSWER_WITHIN_S,
    Named,
    Question,
    candidates,
    contradiction,
    hello,
    is_settled,
    no_answer,
    read_named,
    where_is,
    why_no_primary,
)


def primary_of(url: RedisUrl, sentinels: Sentinels, timeout_s: float) -> tuple[str, int]:
    """Its host and port. A server there has said that it is a primary. Blocks; raises Unreachable, which says why there is none."""
    named, silent = _ask_each(sentinels, ANSWER_WITHIN_S)
    if not named:  # they may be far away, behind TLS, or on a busy machine
        named, silent = _ask_each(sentinels, max(ANSWER_WITHIN_S, FIRST_ANSWER_WITHIN_S / len(sentinels.nodes)))
    if not named:
        raise Unreachable(no_answer(sentinels.name, silent), ADVICE)
    found: list[Named] = []
    refused: list[str] = []
    for place in candidates(named):
        if found and not contradiction(found[0], place, named):
            break
        try:
            replies = exchange(place.host, place.port, url.tls, hello(url.username, url.password), timeout_s)
            if why := why_no_primary(replies):
                refused.append(f"{place}: {why}")
            else:
                found.append(place)
        except (OSError, NoReply) as error:
            refused.append(f"{place}: {unreachable(error, attrs.evolve(url, host=place.host, port=place.port))}")
    if not found:
        raise Unreachable(f"no primary: {'; '.join(refused)}", ADVICE)
    if len(found) > 1:
        raise Unreachable(contradiction(found[0], found[1], named), "do all of them belong to one deployment?")
    return found[0].host, found[0].port


def _ask_each(sentinels: Sentinels, within_s: float) -> tuple[dict[str, Named], list[str]]:
    named: dict[str, Named] = {}
    silent: list[str] = []
    question = where_is(sentinels.name, sentinels.username, sentinels.password)
    for host, port in sentinels.nodes:
        try:
            replies = exchange(host, port, sentinels.tls, question, within_s)
            named[f"{host}:{port}"] = read_named(sentinels.name, replies)
        except OSError as error:
            silent.append(on_one_line(f"{host}:{port}: {unreachable(error, RedisUrl(host, port, tls=sentinels.tls))}"))
        except ValueError as error:
            silent.append(on_one_line(f"{host}:{port}: {error}"))
        if is_settled(named, len(sentinels.nodes)):
            break
    return named, silent


def exchange(host: str, port: int, tls: Tls | None, question: Question, within_s: float) -> list[Reply]:
    """Ask, within that time in all. Raises OSError or NoReply."""
    deadline = time.monotonic() + within_s
    connection = socket.create_connection((host, port), timeout=within_s)
    try:
        if tls is not None:
            connection = tls_context(tls).wrap_socket(connection, server_hostname=host)
        connection.sendall(question.words)
        data = b""
        while (replies := read_replies(data, question.replies)) is None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError
            data += part
        return replies
    finally:
        connection.close()
