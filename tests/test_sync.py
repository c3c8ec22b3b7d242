"""The blocking client: threads, forks, a Redis that goes away, and what it must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import ROOT, Server

from trioworkers import Job, Unavailable
from trioworkers.sync import Client


def program(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def numbers(server: Server, queue: str = "q") -> Counter[int]:
    """The first argument of each job in a queue, and how often it is there."""
    found = server.command("LRANGE", f"queue:{queue}", 0, -1)
    assert isinstance(found, list)
    return Counter(json.loads(payload)["args"][0] for payload in found)


def test_two_hundred_threads_share_a_client(redis_url: str, shared_server: Server):
    client = Client(redis_url, max_connections=20)
    start = threading.Barrier(200)

    def send(thread: int) -> None:
        start.wait()
        for n in range(5):
            client.enqueue(Job("q", "Work", [thread * 5 + n]))

    with ThreadPoolExecutor(200) as pool:
        list(pool.map(send, range(200)))
    connections = str(shared_server.command("CLIENT", "LIST")).count("id=")
    client.close()
    assert numbers(shared_server) == Counter(range(1000))
    assert connections <= 21


def test_forked_processes_have_connections_of_their_own(redis_url: str, shared_server: Server):
    """As gunicorn with preload: the client is made, and used, before the fork, and in the child while its parent's threads use it."""
    done = program(
        "import os, sys, threading\n"
        "from trioworkers.sync import Client\n"
        "from trioworkers import Job\n"
        f"client = Client({redis_url!r})\n"
        "client.enqueue(Job('q', 'Work', [0]))\n"
        "def send(first):\n"
        "    for n in range(50): client.enqueue(Job('q', 'Work', [first + n]))\n"
        "threads = [threading.Thread(target=send, args=[1000 * i]) for i in range(1, 5)]\n"
        "for thread in threads: thread.start()\n"
        "children = []\n"
        "for child in range(5, 10):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        send(1000 * child)\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "print([os.waitpid(pid, 0)[1] for pid in children])\n"
        "for thread in threads: thread.join()\n"
        "send(10000)\n",
        PYTHONWARNINGS="ignore",
    )
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stderr
    expected = {0, *(1000 * each + n for each in range(1, 11) for n in range(50))}
    assert numbers(shared_server) == Counter(expected)


def test_gevent_runs_other_greenlets_meanwhile(redis_url: str, shared_server: Server):
    done = program(
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent\n"
        "from trioworkers.sync import Client\n"
        "from trioworkers import Job\n"
        f"client = Client({redis_url!r}, max_connections=5)\n"
        "waits = gevent.spawn(client.result, 'nobody')\n"
        "sent = [gevent.spawn(client.enqueue, Job('q', 'Work', [n])) for n in range(200)]\n"
        "gevent.joinall(sent, raise_error=True)\n"
        "print(waits.dead)\n"
        "waits.kill()\n"
        "client.enqueue(Job('q', 'Work', [200]))\n"
    )
    assert done.stdout == "False\n", done.stderr
    assert numbers(shared_server) == Counter(range(201))


def test_calls_are_repeated_for_as_long_as_was_said():
    before = time.monotonic()
    with pytest.raises(Unavailable):
        Client("redis://127.0.0.1:1/0", retry_for=0.5).enqueue(Job("q", "Work"))
    assert time.monotonic() - before > 0.2


def test_importing_it_brings_in_no_event_loop_and_no_redis_client_before_the_first_call(redis_url: str):
    text = (
        "import sys, time\n"
        "begun = time.process_time()\n"
        "import trioworkers.sync\n"
        "client = trioworkers.sync.Client(sys.argv[1])\n"
        "from trioworkers import Job\n"
        "took = time.process_time() - begun\n"
        "heavy = ('trio', 'anyio', 'coredis', 'redis', 'asyncio', 'httpx', 'click', 'rich', 'ssl')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "client.enqueue(Job('q', 'Work'))\n"
        "print([name for name in heavy if name in sys.modules and name not in ('ssl', 'asyncio')], file=sys.stdout)\n"
        "print(took)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", text, redis_url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout.splitlines()
        for _ in range(3)
    ]
    assert runs[0][0] == "[]"
    assert runs[0][1] == "['redis']"


COUNTED = """
import sys

counted = [0]

def each(frame, event, arg):
    counted[0] += event == "opcode"
    return each

def called(frame, event, arg):
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return each

before = set(sys.modules)
sys._getframe().f_trace_opcodes = True  # from 3.12 on instructions are told of only if somebody has asked for them before
sys.settrace(called)
import trioworkers.sync
sys.settrace(None)
print(counted[0], *sorted(set(sys.modules) - before))
"""


def test_importing_it_costs_what_it_must():
    """60 ms of CPU on the machine of docs/performance.md, counted, since no clock tells the same twice: 1,110,000 instructions with Python 3.11, most of them attrs',
    msgspec's and the standard library's, and 140 modules. In the lists are those that came along once and are needed by few programs that send."""
    program("import trioworkers.sync")  # compiled from now on
    done = program(COUNTED)
    instructions, *modules = done.stdout.split()
    assert 0 < int(instructions) < 1_250_000, done.stderr
    assert len(modules) < 160
    ours = {name for name in modules if name.startswith("trioworkers.")}
    assert len(ours) <= 42
    assert set(modules) & {"hashlib", "pathlib", "base64", "dataclasses"} == set()
    assert (
        ours
        & {
            f"trioworkers.{name}"
            for name in (
                "cron",
                "missed_ticks",
                "zones",
                "outcome",
                "wire.active_job",
                "wire.ruby_values",
                "wire.lock_key",
                "broker.enqueue",
            )
        }
        == set()
    )


def test_without_redis_py_it_says_what_to_install():
    done = program(
        "import sys\n"
        "sys.modules['redis'] = None\n"
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda name: None if name == 'redis' else find(name)\n"
        "from trioworkers.sync import Client\n"
        "Client('redis://localhost:1')\n"
    )
    assert "pip install 'trioworkers[sync]'" in done.stderr


def test_threads_that_send_while_another_one_closes_the_client_see_nothing_of_it(redis_url: str, shared_server: Server):
    client, over, sent = Client(redis_url), threading.Event(), Counter[int]()

    def send(number: int) -> None:
        while not over.is_set():
            client.enqueue(Job("q", "Work", [number]))
            sent[number] += 1

    with ThreadPoolExecutor(8) as threads:
        sending = [threads.submit(send, number) for number in range(8)]
        try:
            for closed in range(1, 21):
                while sum(sent.values()) < closed * 20 and not any(each.done() for each in sending):
                    time.sleep(0.001)
                client.close()
        finally:
            over.set()
        for each in sending:
            each.result()
    assert numbers(shared_server) == sent
    client.close()
