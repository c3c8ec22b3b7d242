"""A stand-in for go-workers (jrallison's) and go-workers2: does in Redis, command by command, what they do. There is no Go where the tests run.

Usage: goworkers.py PORT NAMESPACE PROCESS_ID QUEUE RUNS [BEAT_S STALE_S]. Each job notes `start JID PID` and `end JID PID` in the file RUNS; its
first argument says how many seconds it takes. With BEAT_S it is a go-workers2 with heartbeats, and says on standard output why they end.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from servers import Server

Command = Callable[..., Any]
CONCURRENCY = 5


class GoWorkers:
    def __init__(self, port: str, namespace: str, process_id: str, queue: str, runs: str) -> None:
        self.server = Server(Path("/nonexistent"))
        self.server.port = int(port)
        self.prefix = f"{namespace}:" if namespace else ""
        self.process_id, self.queue = process_id, queue
        self.list = f"{self.prefix}queue:{queue}:{process_id}:inprogress"
        self.runs = runs
        self.stopping = False
        self.slots = threading.Semaphore(CONCURRENCY)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        with self.server.session() as command:
            print("started", flush=True)
            for payload in command("LRANGE", self.list, 0, -1):  # what it left, also what others did
                self.slots.acquire()
                threading.Thread(target=self._process, args=[payload]).start()
            while not self.stopping:
                self.slots.acquire()
                payload = command("BRPOPLPUSH", f"{self.prefix}queue:{self.queue}", self.list, 1)
                if payload is None:
                    self.slots.release()
                else:
                    threading.Thread(target=self._process, args=[payload]).start()
            for _ in range(CONCURRENCY):  # waits for running jobs, without limit
                self.slots.acquire()

    def _process(self, payload: str) -> None:
        job = json.loads(payload)
        self._note("start", job)
        time.sleep(job["args"][0])
        self._note("end", job)
        with self.server.session() as command:
            command("LREM", self.list, -1, payload)
            command("INCR", f"{self.prefix}stat:processed")
        self.slots.release()

    def _note(self, event: str, job: dict[str, Any]) -> None:
        with Path(self.runs).open("a") as runs:
            runs.write(f"{event} {job['jid']} {os.getpid()}\n")

    # ── go-workers2's heartbeat ────────────────────────────────────────────────────────────────────────────────────────

    def beat(self, every_s: float, stale_s: float) -> None:
        identity = f"web1:{os.getpid()}:{secrets.token_hex(12)}"
        started_at = int(time.time())
        try:
            with self.server.session() as command:
                while not self.stopping:
                    self._write(command, identity, started_at)
                    for member in command("SMEMBERS", f"{self.prefix}processes"):
                        self._read(command, member, stale_s)
                    time.sleep(every_s)
        except ValueError as error:  # for good: its jobs go on, and its peers take it for dead
            print(f"heartbeat ended: {error}", flush=True)

    def _write(self, command: Command, identity: str, started_at: int) -> None:
        info = {"hostname": "web1", "started_at": started_at, "Pid": os.getpid(), "tag": "default", "concurrency": 5}
        info |= {"queues": [self.queue], "labels": [], "identity": identity}
        lists = [{"pid": "1", "tid": '"a1b"', "queue": f'"{self.queue}"'}]
        lists[0]["in_progress_queue"] = f'"{self.queue}:{self.process_id}:inprogress"'
        command("SADD", f"{self.prefix}processes", identity)
        fields = {
            "beat": int(time.time()),
            "quiet": 0,
            "busy": 0,
            "rtt_us": 0,
            "rss": 0,
            "manager_priority": 0,
            "active_manager": 1,
        }
        fields |= {"info": json.dumps(info), "worker_heartbeats": json.dumps(lists)}
        command("HMSET", f"{self.prefix}{identity}", *(word for pair in fields.items() for word in pair))

    def _read(self, command: Command, identity: str, stale_s: float) -> None:
        names = [
            "beat",
            "quiet",
            "busy",
            "rtt_us",
            "rss",
            "info",
            "worker_heartbeats",
            "manager_priority",
            "active_manager",
        ]
        values = command("HMGET", f"{self.prefix}{identity}", *names)
        record = dict(zip(names, ("<nil>" if value is None else value for value in values), strict=True))
        json.loads(record["info"])
        lists = json.loads(record["worker_heartbeats"])
        for name in ("beat", "busy", "rtt_us", "rss", "manager_priority"):
            int(record[name])
        for name in ("quiet", "active_manager"):
            if record[name] not in ("0", "1", "true", "false"):
                raise ValueError(f"{name}: {record[name]}")
        if time.time() - int(record["beat"]) > stale_s:
            for entry in lists:
                source = f"{self.prefix}queue:{json.loads(entry['in_progress_queue'])}"
                while command("RPOPLPUSH", source, f"{self.prefix}queue:{json.loads(entry['queue'])}") is not None:
                    print(f"requeued from {source}", flush=True)
            command("DEL", f"{self.prefix}{identity}", f"{self.prefix}{identity}:work")
            command("SREM", f"{self.prefix}processes", identity)


if __name__ == "__main__":
    workers = GoWorkers(*sys.argv[1:6])
    if len(sys.argv) > 6:
        threading.Thread(target=workers.beat, args=[float(word) for word in sys.argv[6:8]], daemon=True).start()
    workers.run()
