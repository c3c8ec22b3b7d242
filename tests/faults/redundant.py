"""Servers that stand in for each other: a primary and its replica under three Sentinels, and a cluster of six."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from servers import Sentinel, Server, free_port, wait_for

NAMESPACE = "{shop}"
SLOTS = 16384


@attrs.define
class Deployment:
    """Two servers, one of them the primary, and who watches them."""

    servers: list[Server]
    sentinels: list[Sentinel]

    @property
    def url(self) -> str:
        return self.url_of(*(sentinel.port for sentinel in self.sentinels))

    @staticmethod
    def url_of(*ports: int, name: str = "main") -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{name}/0"

    @property
    def primary(self) -> Server:
        ports = {sentinel.primary_port() for sentinel in self.sentinels}
        found = [server for server in self.servers if server.port in ports]
        return found[0] if len(ports) == 1 and found else self.servers[0]

    @property
    def replica(self) -> Server:
        return next(server for server in self.servers if server is not self.primary)

    def is_whole(self) -> bool:
        """Whether every Sentinel knows all, and one server replicates the other."""
        with suppress(OSError, AssertionError):
            info = str(self.primary.command("INFO", "replication"))
            return (
                "role:master" in info
                and "state=online" in info
                and "master_link_status:up" in str(self.replica.command("INFO", "replication"))
                and len({sentinel.primary_port() for sentinel in self.sentinels}) == 1
                and all(
                    "status=ok" in (told := str(sentinel.command("INFO", "sentinel")))
                    and "slaves=1,sentinels=3" in told
                    for sentinel in self.sentinels
                )
            )
        return False

    def fail_over(self) -> None:
        """Ask one of them for a failover, and wait until all name the other server."""
        before = self.primary

        def asked() -> bool:
            try:
                self.sentinels[0].command("SENTINEL", "FAILOVER", "main")
            except AssertionError:  # NOGOODSLAVE: it has not seen yet that the replica is well
                return False
            return True

        wait_for(asked, "the Sentinel begins the failover")
        wait_for(lambda: self.primary is not before, "all Sentinels name the other one")


@contextmanager
def under_sentinels(folder: Path, kind: type[Server] = Server) -> Iterator[Deployment]:
    """A primary, its replica, and three who watch them."""
    at_once = ("--repl-diskless-sync-delay", "0")  # else a replica waits five seconds for others
    servers = [kind(_made(folder / f"redis{number}")) for number in range(2)]
    sentinels = []
    try:
        for server in servers:
            server.start(*at_once)
        servers[1].command("REPLICAOF", "127.0.0.1", servers[0].port)
        wait_for(lambda: "state=online" in str(servers[0].command("INFO", "replication")), "it replicates")
        for number in range(3):
            sentinel = Sentinel(_made(folder / f"sentinel{number}"), servers[0], quorum=2).start()
            sentinels.append(sentinel)
            with suppress(AssertionError):  # an older one: it looks every ten seconds
                sentinel.command("SENTINEL", "DEBUG", "info-period", 500)
        yield Deployment(servers, sentinels)
    finally:
        for process in (*sentinels, *servers):
            process.kill()


@attrs.define
class Nodes:
    """All six, and who is who."""

    servers: list[Server]

    def url(self, *servers: Server) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{each.port}' for each in servers or self.servers)}"

    @property
    def slot(self) -> int:
        return int(str(self.living()[0].command("CLUSTER", "KEYSLOT", f"{NAMESPACE}:queue:q")))

    def living(self) -> list[Server]:
        return [each for each in self.servers if answers(each)]

    def owner(self) -> Server:
        """The primary that has our slot, as one of those says that live."""
        told = self.living()[0].command("CLUSTER", "SLOTS")
        assert isinstance(told, list)
        port = next(int(node[1]) for first, last, node, *_ in told if int(first) <= self.slot <= int(last))
        return next(each for each in self.servers if each.port == port)

    def primaries(self) -> list[Server]:
        return [each for each in self.living() if "role:master" in str(each.command("INFO", "replication"))]

    def is_whole(self) -> bool:
        with suppress(OSError, AssertionError):
            return all(
                "cluster_state:ok" in str(each.command("CLUSTER", "INFO"))
                and "cluster_known_nodes:6" in str(each.command("CLUSTER", "INFO"))
                and str(each.command("CLUSTER", "NODES")).count("fail") == 0
                for each in self.servers
            ) and all("state=online" in str(each.command("INFO", "replication")) for each in self.primaries())
        return False


def answers(server: Server) -> bool:
    try:
        return server.command("PING") == "PONG"
    except (OSError, AssertionError):
        return False


def ids(server: Server) -> str:
    return str(server.command("CLUSTER", "MYID"))


OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")


def bus_port(server: Server) -> tuple[str, str]:
    return ("--cluster-port", str(free_port()))


@contextmanager
def in_cluster(folder: Path, kind: type[Server] = Server) -> Iterator[Nodes]:
    """Three primaries and their replicas."""
    servers, buses = [kind(_made(folder / f"node{number}")) for number in range(6)], [free_port() for _ in range(6)]
    nodes = Nodes(servers)
    try:
        for server, bus in zip(servers, buses, strict=True):
            server.start(*OPTIONS, "--cluster-port", str(bus))
        share = SLOTS // 3 + 1
        for number, primary in enumerate(servers[:3]):
            last = min((number + 1) * share, SLOTS) - 1
            primary.command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            primary.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        for primary, replica in zip(servers[:3], servers[3:], strict=True):
            wanted = ids(primary)
            wait_for(lambda: wanted in str(replica.command("CLUSTER", "NODES")), "it knows its primary")  # noqa: B023 - used at once
            replica.command("CLUSTER", "REPLICATE", wanted)
        yield nodes
    finally:
        for server in servers:
            server.kill()


def move_slot(nodes: Nodes) -> None:
    """Hand our slot to another primary, key by key, as redis-cli does it."""
    slot, source = nodes.slot, nodes.owner()
    target = next(each for each in nodes.primaries() if each is not source)
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids(source))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids(target))
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        assert isinstance(keys, list)
        with suppress(AssertionError):  # gone or changed meanwhile
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    wanted = ids(target)
    for each in (target, source, *(other for other in nodes.primaries() if other not in (target, source))):
        each.command("CLUSTER", "SETSLOT", slot, "NODE", wanted)
    wait_for(lambda: nodes.owner() is target, "all know that it has moved")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
