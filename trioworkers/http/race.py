"""Connects to a host that has several addresses, after RFC 8305 (happy eyeballs)."""

from __future__ import annotations

from collections.abc import Sequence

import trio

NEXT_ADDRESS_AFTER_S = 0.25
"""As RFC 8305 wants it."""


async def first_of(addresses: Sequence[str], port: int) -> trio.SocketStream:
    """A connection to the first address that takes us, the next one tried when one fails or takes long. Raises OSErrors in a group."""
    won: list[trio.SocketStream] = []
    errors: list[OSError] = []

    async def attempt(address: str, failed: trio.Event) -> None:
        try:
            stream = await trio.open_tcp_stream(address, port)
        except OSError as error:
            errors.append(error)
            failed.set()
            return
        won.append(stream)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in _by_turns(addresses):
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(NEXT_ADDRESS_AFTER_S):
                    await failed.wait()
    except BaseException:
        for stream in won:
            stream.socket.close()
        raise
    for stream in won[1:]:  # two may have won in the same round
        stream.socket.close()
    if not won:
        raise OSError("no address accepted the connection") from ExceptionGroup("attempts", errors)
    return won[0]


def _by_turns(addresses: Sequence[str]) -> list[str]:
    """The first address of the other family comes second: a family that doesn't work here costs one attempt."""
    other = next((each for each in addresses if (":" in each) != (":" in addresses[0])), None)
    if other is None:
        return list(addresses)
    rest = [each for each in addresses[1:] if each != other]
    return [addresses[0], other, *rest]
