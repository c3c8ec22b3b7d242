"""What a Sentinel is asked, what its answer means, and which of several answers counts. Bytes and values; who asks has the sockets.

Each Sentinel says where it believes the primary to be, and in which epoch it came to believe that. They may differ: during a failover for
a moment, one that was cut off for longer, and for ever where a URL names Sentinels of two deployments. The place that the latest epoch
names comes first, and whether a server there takes itself for a primary is asked of it before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from trioworkers.wire.resp import ErrorReply, Reply, encode_command

ANSWER_WITHIN_S = 0.5
"""What a Sentinel gets, connecting included, where another has answered."""
FIRST_ANSWER_WITHIN_S = 3.0
"""What all of them get until the first has answered: they may be far away, behind TLS, or on a busy machine."""
MAX_PORT = 65535
ADVICE = "do they run, and is a failover under way? ask one: redis-cli -p 26379 SENTINEL MASTERS"


@attrs.frozen
class Named:
    """Where a Sentinel says the primary is. `epoch`: of the failover that made it so; 0 if it won't tell. `run_id`: the server's; "" likewise."""

    host: str
    port: int
    epoch: int = 0
    run_id: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def is_same(self, other: Named) -> bool:
        """Whether both are one server, which may have two names."""
        return (self.host, self.port) == (other.host, other.port) or (
            self.run_id == other.run_id != "" and self.port == other.port
        )


@attrs.frozen
class Question:
    """Commands, and how many replies they get."""

    words: bytes
    replies: int


def login(username: str | None, password: str | None) -> tuple[str, ...]:
    """The words of AUTH; none if there is no password."""
    if password is None:
        return ()
    return ("AUTH", username, password) if username else ("AUTH", password)


def where_is(name: str, username: str | None, password: str | None) -> Question:
    """Asks a Sentinel for the primary of that name."""
    auth = login(username, password)
    commands = [auth] if auth else []
    # The first one alone knows who was promoted while a failover is under way; the second one alone tells the epoch.
    commands += [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name)]
    return Question(b"".join(encode_command(*command) for command in commands), len(commands))


def read_named(name: str, replies: Sequence[Reply]) -> Named:
    """What the replies to `where_is` say. Raises ValueError, which says why they say nothing."""
    *auth, place, details = replies
    if errors := [reply for reply in (*auth, place) if isinstance(reply, ErrorReply)]:
        raise ValueError(_said(errors[0]))
    if place is None:
        raise ValueError(f"it watches no primary named {name!r}")
    match place:
        case [bytes(host), bytes(port)] if host and port.isdigit() and len(port) < 6 and 0 < int(port) <= MAX_PORT:
            told = _fields(details)
            epoch = told.get(b"config-epoch", b"")
            known = int(epoch) if epoch.isdigit() and len(epoch) < 20 else 0
            return Named(_text(host), int(port), known, _text(told.get(b"runid", b"")))
    raise ValueError(f"it answered {place!r:.80}")


def hello(username: str | None, password: str | None) -> Question:
    """Asks a server what it is. Whoever may log in may ask that; ROLE and INFO are forbidden to most users."""
    auth = ("AUTH", username or "default", password) if password is not None else ()
    return Question(encode_command("HELLO", 2, *auth), 1)


def why_no_primary(replies: Sequence[Reply]) -> str:
    """Why the server that sent these replies to `hello` is not to be used; "" if it is a primary, or refuses us (its client hears why)."""
    match replies[0]:
        case ErrorReply():
            return ""
        case list() as words:
            told = _fields(words)
            if told.get(b"mode") == b"sentinel":
                return "it is a Sentinel"
            role = told.get(b"role", b"")
            return "" if role == b"master" else f"it is a {_text(role)[:40] or 'server without a role'}, not a primary"
        case other:
            return f"it answered {other!r:.80}"


def candidates(named: Mapping[str, Named]) -> list[Named]:
    """The places that were named, each once, those of the latest epoch first."""
    found: list[Named] = []
    for each in sorted(named.values(), key=lambda each: -each.epoch):
        if not any(each.is_same(other) for other in found):
            found.append(each)
    return found


def is_settled(named: Mapping[str, Named], asked: int) -> bool:
    """Whether the answers so far are enough: more than half of all those asked name the same place."""
    return any(2 * sum(each.is_same(other) for other in named.values()) > asked for each in named.values())


def contradiction(first: Named, second: Named, named: Mapping[str, Named]) -> str:
    """What to say of two servers that both are primaries, if neither was named in a later epoch; "" if one was."""
    if first.epoch != second.epoch:
        return ""
    who = {place: next(node for node, each in named.items() if each.is_same(place)) for place in (first, second)}
    return f"Sentinels name different primaries: {who[first]} says {first}, {who[second]} says {second}"


def no_answer(name: str, silent: Sequence[str]) -> str:
    """What to say if none of them names a place. `silent`: why, Sentinel by Sentinel."""
    return f"no Sentinel says where {name!r} is: {'; '.join(silent)}"


def _fields(reply: Reply) -> dict[bytes, bytes]:
    """Names and values in turn, as many as are texts."""
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=False)
    return {name: value for name, value in pairs if isinstance(name, bytes) and isinstance(value, bytes)}


def _said(error: ErrorReply) -> str:
    if error.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return f"{error:.120} (its user and password are ?sentinel_username= and ?sentinel_password=)"
    return f"{error:.120}"


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
