"""Processes, Ruby's and ours, and what they run, as of their last heartbeat."""

from __future__ import annotations

from trioworkers.broker.people.reading import Reader
from trioworkers.errors import BrokerError, Refused
from trioworkers.wire.error_replies import is_about_a_key
from trioworkers.wire.process_records import Process, Running, decode_process, decode_running


class Processes(Reader):
    """Whoever has a heartbeat."""

    async def processes(self) -> list[Process]:
        """All processes with a heartbeat, Ruby's and ours, by identity. A record that is no hash is passed over."""
        identities = await self._read.smembers(self._keys.processes)
        records = await self._read.hgetall_of([self._keys.process(identity) for identity in identities])
        found: list[Process] = []
        for identity, record in zip(identities, records, strict=True):
            if isinstance(record, BrokerError):
                if not is_about_a_key(str(record)):
                    raise record
            elif record:
                found.append(decode_process(identity, record))
        return found

    async def running(self, process: Process, limit: int) -> list[Running]:
        """Up to about `limit` of the jobs that a process runs, as of its last heartbeat, longest first."""
        found: list[Running] = []
        read = self._connection.commands("")  # not logged where it is refused: what others write is no news of Redis
        for key in self._keys.running(process.identity):
            cursor: int | None = None
            while cursor != 0 and len(found) < limit:
                try:
                    cursor, records = await read.hscan(key, cursor, max(limit, 10))
                except Refused as error:
                    if not is_about_a_key(str(error)):
                        raise
                    break
                decoded = (decode_running(process, text) for text in records.values())
                found += [running for running in decoded if running is not None]
            if found:
                break
        return sorted(found, key=lambda running: running.run_at_s)
