"""What a soak's workers stand on: one Redis behind a proxy, several processes a worker, Sentinels, a cluster; and what may befall each."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from proxy import Proxy
from redundant import NAMESPACE, OPTIONS, Deployment, Nodes, bus_port, in_cluster, move_slot, under_sentinels
from servers import Server, wait_for

Fault = Callable[[], None]
FIRST_IS_A_KEY = {"LPUSH", "LRANGE", "LLEN", "ZCARD", "ZRANGE", "SADD", "KEYS"}
FREEZE_S = 3.0
"""Longer than a Sentinel or a cluster's node waits before it takes a server for dead."""


class Topology:
    """One Redis behind a proxy; the others differ from it. `lease_s`: the workers'. `failovers`: how many there were, each of which may undo what was settled last."""

    processes = 1
    parts = 1
    """How many Redises a worker has, at each of which it says that it has started."""
    harmless: frozenset[str] = frozenset({"scripts flushed"})
    """Faults of its own that are no outage."""

    def __init__(self, folder: Path, chance: random.Random, lease_s: float) -> None:
        self.folder = folder
        self.chance = chance
        self.lease_s = lease_s
        self.failovers = 0
        self.back_at: list[float] = []
        self.prefix = ""
        self.options: Sequence[str] = ()
        self.environment: Mapping[str, str] = {}
        self.url = ""
        self.opened = ExitStack()
        self.open()

    def open(self) -> None:
        """Start the servers."""
        (self.folder / "redis").mkdir()
        self._server = Server(self.folder / "redis").start()
        self.opened.callback(self._server.kill)
        self._proxy = Proxy(self._server.port)
        self.opened.callback(self._proxy.close)
        self.url = self._proxy.url

    def close(self) -> None:
        """End them."""
        self.opened.close()

    @property
    def primary(self) -> Server:
        """Where the data are now."""
        return self._server

    def command(self, *words: object) -> object:
        """As `Server.command`, at the primary, behind the namespace; asked until it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._told(self.primary.command(*self._named(words)))
            except (OSError, AssertionError, ValueError, StopIteration, IndexError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def push(self, key: str, payloads: Sequence[str]) -> bool:
        """Whether they are there for sure."""
        try:
            self.primary.command("LPUSH", self.prefix + key, *payloads)
        except (OSError, AssertionError, ValueError):
            return False
        return True

    def _named(self, words: Sequence[object]) -> list[object]:
        first = f"{self.prefix}{words[1]}" if words[0] in FIRST_IS_A_KEY else words[1] if len(words) > 1 else None
        return [words[0], *([] if first is None else [first]), *words[2:]]

    def _told(self, reply: object) -> object:
        if not self.prefix or not isinstance(reply, list):
            return reply
        return [each.removeprefix(self.prefix) if isinstance(each, str) else each for each in reply]

    def faults(self) -> Mapping[str, Fault]:
        """What may befall it."""
        return {
            "Redis killed": self._kill_redis,
            "Redis frozen": self._freeze_redis,
            "connections reset": self._proxy.reset_all,
            "replies lost": self._lose_replies,
            "clients killed": lambda: self._tell("CLIENT", "KILL", "TYPE", "normal"),
            "scripts flushed": lambda: self._tell("SCRIPT", "FLUSH"),
            "writes paused": lambda: self._tell("CLIENT", "PAUSE", 300, "WRITE"),
        }

    def _tell(self, *words: object) -> None:
        self._server.command(*words)

    def _kill_redis(self) -> None:
        self._server.kill()
        time.sleep(self.chance.choice([0, 0.5, self.lease_s * 1.5]))
        self._server.start()
        self.back_at.append(time.time())

    def _freeze_redis(self) -> None:
        self._server.send(signal.SIGSTOP)
        time.sleep(self.chance.choice([0.3, 1.5, self.lease_s * 2]))
        self._server.send(signal.SIGCONT)

    def _lose_replies(self) -> None:
        with self._proxy.losing_replies():
            time.sleep(0.2)


class InCapsule(Topology):
    """Each worker fetches from two queues at once."""

    def open(self) -> None:
        """See `Topology`."""
        super().open()
        self.environment = {"CAPSULE": "1"}


class Processes(Topology):
    """Each worker is a parent with two processes."""

    processes = 2

    def open(self) -> None:
        """See `Topology`."""
        super().open()
        self.options = ("--processes", str(self.processes))


class Shards(Topology):
    """Four Redises, each behind a proxy; jobs that a job sends lie in the last one. What befalls one befalls none of the others."""

    parts = 5  # with the App's own

    def open(self) -> None:
        """See `Topology`."""
        self._servers: list[Server] = []
        self._proxies: list[Proxy] = []
        for number in range(4):
            (self.folder / f"redis{number}").mkdir()
            self._servers.append(Server(self.folder / f"redis{number}").start())
            self.opened.callback(self._servers[-1].kill)
            self._proxies.append(Proxy(self._servers[-1].port))
            self.opened.callback(self._proxies[-1].close)
        self._server, self._proxy = self._servers[0], self._proxies[0]
        self.url = f"{self._proxy.url.rpartition('/')[0]}/1"  # the App's own, in which nothing lies
        self.environment = {"SHARDS": ",".join(proxy.url for proxy in self._proxies)}

    def command(self, *words: object) -> object:
        """As `Topology.command`, of all of them together."""
        replies = []
        for server in self._servers:
            self._server = server
            replies.append(super().command(*words))
        if all(isinstance(reply, list) for reply in replies):
            return [each for reply in replies for each in reply]  # type: ignore[attr-defined]
        return sum(int(str(reply)) for reply in replies)

    def push(self, key: str, payloads: Sequence[str]) -> bool:
        """See `Topology`: into one of them."""
        try:
            random.choice(self._servers).command("LPUSH", key, *payloads)
        except (OSError, AssertionError, ValueError):
            return False
        return True

    def faults(self) -> Mapping[str, Fault]:
        """See `Topology`."""
        return {name: partial(self._befall, name) for name in super().faults()}

    def _befall(self, name: str) -> None:
        number = self.chance.randrange(len(self._servers))
        self._server, self._proxy = self._servers[number], self._proxies[number]
        super().faults()[name]()


class Redundant(Topology):
    """Servers that stand in for each other. What was pushed is there for sure when a replica has it."""

    harmless = frozenset({"clients killed", "replica killed", "a Sentinel killed"})

    def push(self, key: str, payloads: Sequence[str]) -> bool:
        """See `Topology`."""
        try:
            with self.primary.session() as command:
                command("LPUSH", self.prefix + key, *payloads)
                return int(str(command("WAIT", 1, 1000))) >= 1
        except (OSError, AssertionError, ValueError, StopIteration, IndexError):
            return False

    @contextmanager
    def failing_over(self) -> Iterator[Server]:
        """What the block does to the server that it is given makes another one the primary; then all is mended."""
        before = self.primary
        before.wait_replicated()
        self.failovers += 1
        try:
            yield before
        finally:
            self.back_at.append(time.time())
            wait_for(self.is_whole, "all are back, and one of them is the primary")
            self.primary.wait_replicated()

    def is_whole(self) -> bool:
        """Whether a failover would lose nothing."""
        raise NotImplementedError

    def is_promoted(self, before: Server) -> bool:
        """Whether all take another one for the primary."""
        with suppress(OSError, AssertionError, StopIteration, IndexError):
            return self.primary is not before
        return False

    def restart(self, server: Server) -> None:
        """Start one that was killed."""
        raise NotImplementedError

    def kill_primary(self) -> None:
        """As `kill -9`."""
        with self.failing_over() as before:
            before.kill()
            wait_for(lambda: self.is_promoted(before), "another one is promoted")
            self.restart(before)

    def freeze_primary(self) -> None:
        """It is taken for dead, and comes back as one that thinks that it is the primary."""
        with self.failing_over() as before:
            before.send(signal.SIGSTOP)
            time.sleep(FREEZE_S)
            wait_for(lambda: self.is_promoted(before), "another one is promoted")
            before.send(signal.SIGCONT)

    def kill_replica(self) -> None:
        """The primary stands alone for a while."""
        replica = self.a_replica()
        replica.kill()
        time.sleep(self.chance.uniform(0.1, 1.0))
        self.restart(replica)
        wait_for(self.is_whole, "the replica is back")

    def a_replica(self) -> Server:
        """The primary's."""
        raise NotImplementedError

    def faults(self) -> Mapping[str, Fault]:
        """See `Topology`."""
        return {
            "primary killed": self.kill_primary,
            "primary frozen": self.freeze_primary,
            "replica killed": self.kill_replica,
            "clients killed": lambda: self._tell("CLIENT", "KILL", "TYPE", "normal"),
        }

    def _tell(self, *words: object) -> None:
        self.primary.command(*words)


class UnderSentinels(Redundant):
    """A primary and a replica under three Sentinels."""

    def open(self) -> None:
        """See `Topology`."""
        self._deployment: Deployment = self.opened.enter_context(under_sentinels(self.folder))
        wait_for(self._deployment.is_whole, "the Sentinels know each other and both servers")
        self.url = self._deployment.url

    @property
    def primary(self) -> Server:
        """See `Topology`."""
        return self._deployment.primary

    def is_whole(self) -> bool:
        """See `Redundant`."""
        return self._deployment.is_whole()

    def restart(self, server: Server) -> None:
        """See `Redundant`."""
        server.start("--repl-diskless-sync-delay", "0")

    def a_replica(self) -> Server:
        """See `Redundant`."""
        return self._deployment.replica

    def faults(self) -> Mapping[str, Fault]:
        """See `Topology`."""
        return {**super().faults(), "failover asked for": self._fail_over, "a Sentinel killed": self._kill_sentinel}

    def _fail_over(self) -> None:
        with self.failing_over():
            self._deployment.fail_over()

    def _kill_sentinel(self) -> None:
        sentinel = self.chance.choice(self._deployment.sentinels)
        sentinel.kill()
        time.sleep(self.chance.uniform(0.1, 1.0))
        sentinel.restart()
        wait_for(self.is_whole, "the Sentinel is back")


class InCluster(Redundant):
    """A cluster of six."""

    def open(self) -> None:
        """See `Topology`."""
        self._nodes: Nodes = self.opened.enter_context(in_cluster(self.folder))
        wait_for(self._nodes.is_whole, "the cluster is whole")
        self.url, self.prefix = self._nodes.url(), f"{NAMESPACE}:"
        self.options = ("--namespace", NAMESPACE)

    @property
    def primary(self) -> Server:
        """See `Topology`."""
        return self._nodes.owner()

    def is_whole(self) -> bool:
        """See `Redundant`."""
        return self._nodes.is_whole() and "connected_slaves:1" in str(self.primary.command("INFO", "replication"))

    def restart(self, server: Server) -> None:
        """See `Redundant`."""
        server.start(*OPTIONS, *bus_port(server))

    def a_replica(self) -> Server:
        """See `Redundant`."""
        told = str(self.primary.command("INFO", "replication"))
        return next(each for each in self._nodes.living() if f"port={each.port}," in told)

    def faults(self) -> Mapping[str, Fault]:
        """See `Topology`."""
        return {**super().faults(), "slot moved": self._move_slot}

    def _move_slot(self) -> None:
        with self.failing_over():
            move_slot(self._nodes)


TOPOLOGIES: Mapping[str, type[Topology]] = {
    "one": Topology,
    "capsule": InCapsule,
    "processes": Processes,
    "shards": Shards,
    "sentinel": UnderSentinels,
    "cluster": InCluster,
}
