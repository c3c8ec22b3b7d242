"""A proxy that understands what workers ask: one command may be refused, its reply come too late or never, its connection break before it."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from harness import all_scripts
from proxy import Proxy

LATE, LOST, BROKEN = "late", "lost", "broken"
"""What may become of a command besides an error: carried out, and all replies of its connection are held back for a while; carried out, and the
connection breaks instead of the reply; not carried out, and the connection breaks."""
Harm = Callable[[str, int], str | None]
"""What becomes of the command of this kind that is the so-maniest: one of the above, an error as Redis words it, or None for nothing."""
_REFUSING = b"return redis.error_reply(ARGV[1])"
_WITH_SECOND_WORD = (b"CLIENT", b"CONFIG", b"SCRIPT")


class CommandProxy(Proxy):
    """`harm` is asked of each command. `seen`: how many of each kind have come by. `done`: what was done to which."""

    def __init__(self, target_port: int, late_s: float = 1.0) -> None:
        super().__init__(target_port)
        self._late_s = late_s
        self._scripts = {each.sha.encode(): each.name for each in all_scripts().values()}
        self._scripts |= {each.text.encode(): each.name for each in all_scripts().values()}
        self.harm: Harm = lambda kind, number: None
        self.seen: Counter[str] = Counter()
        self.done: list[tuple[str, str]] = []
        self._turn = threading.Lock()
        self._may_answer: dict[socket.socket, threading.Event] = {}
        self._doomed: set[socket.socket] = set()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        try:
            if is_reply:
                self._pass_replies(source, sink)
            else:
                self._pass_commands(source, sink)
        except OSError:
            pass
        finally:
            self._close(source, sink)

    def _pass_replies(self, server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(65536):
            if (held := self._may_answer.get(client)) is not None:
                held.wait()
            if client in self._doomed:
                return
            client.sendall(data)

    def _pass_commands(self, client: socket.socket, server: socket.socket) -> None:
        rest = b""
        while data := client.recv(65536):
            rest += data
            while (words := read_command(rest)) is not None:
                size, command = words
                self._pass_command(client, server, rest[:size], command)
                rest = rest[size:]

    def _pass_command(self, client: socket.socket, server: socket.socket, data: bytes, words: list[bytes]) -> None:
        kind = self._kind_of(words)
        with self._turn:
            self.seen[kind] += 1
            harm = self.harm(kind, self.seen[kind])
            if harm is not None:
                self.done.append((kind, harm))
        match harm:
            case None:
                pass
            case "broken":
                raise OSError("broken")
            case "lost":
                self._doomed.add(client)
            case "late":
                self._may_answer[client] = held = threading.Event()
                threading.Timer(self._late_s, held.set).start()
            case error:
                data = b"".join(_encoded(b"EVAL", _REFUSING, b"0", error.encode()))
        server.sendall(data)

    def _kind_of(self, words: list[bytes]) -> str:
        name = words[0].upper()
        if name in (b"EVALSHA", b"EVAL"):
            return f"{name.decode()} {self._scripts.get(words[1], '?')}"
        return b" ".join(words[: 2 if name in _WITH_SECOND_WORD else 1]).decode().upper()


def read_command(data: bytes) -> tuple[int, list[bytes]] | None:
    """How long the first command in `data` is, and its words; None if it isn't all there."""
    try:
        at = data.index(b"\r\n") + 2
        words = []
        for _ in range(int(data[1 : at - 2])):
            end = data.index(b"\r\n", at)
            size, at = int(data[at + 1 : end]), end + 2
            if len(data) < at + size + 2:
                return None
            words.append(data[at : at + size])
            at += size + 2
    except ValueError:
        return None
    return at, words


def _encoded(*words: bytes) -> Iterator[bytes]:
    yield b"*%d\r\n" % len(words)
    for word in words:
        yield b"$%d\r\n%s\r\n" % (len(word), word)
