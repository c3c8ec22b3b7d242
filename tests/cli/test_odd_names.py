"""Commands on queues and classes with names that others made: each acts on exactly the one that is named, and what it says can be pasted back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable

import pytest
from acting import fill, jobs_in, members, payload, refused
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Server

from trioworkers.cli.commands import app
from trioworkers.printable import as_argument, as_name, as_word

NAMES = [
    *(
        "low prio",
        " q",
        "q ",
        "a  b",
        "über",
        "u\u0308ber",
        "a:b",
        "-x",
        "--all",
        "-",
        "*",
        "[ab]",
        "?",
        "x" * 300,
        "😀",
    ),
    *(
        "a'b",
        'a"b',
        "$HOME",
        "`id`",
        "$(id)",
        "; id #",
        "a\\b",
        "%s",
        "{x}",
        "a,b",
        "=x",
        "~",
        "!x",
        "a/b",
        "&",
        "a\\nb",
    ),
    *("\u202eq", "q\u200b", "\u00a0q", "\u3164", "\ufe0f", "\ufeffq", "\U000e0041q"),
]
CONTROL = ["q\n", "a\nb", "a\tb", "q\r", "\x1b[1m", "\x85q", "\x7f"]
"""Nothing of ours sends to such queues, so pausing them is refused; others may have."""
END = "end-of-a-line"
DECOYS = ("q", "a b", "x", "ab", "a")


def pasted(lines: Iterable[str]) -> list[list[str]]:
    """The words that bash makes of each line."""
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    script = "\n".join(f"printf '%s\\0' {line.strip()} {END}" for line in lines)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/elsewhere"}
    done = subprocess.run([bash, "-c", script], capture_output=True, check=True, env=environment, cwd="/")
    found = done.stdout.decode("utf-8", "surrogateescape").split(f"{END}\0")[:-1]
    return [line.split("\0")[:-1] for line in found]


def seen(text: str) -> bool:
    return text.isprintable() and not set(text) & {*"\u3164\ufe0f"}


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=20)
@given(st.lists(TEXT, min_size=1, max_size=50))
def test_any_text_pasted_into_a_shell_is_that_text(texts: list[str]):
    assert pasted(map(as_word, texts)) == [[text] for text in texts]
    assert all(seen(as_word(text)) for text in texts)


def test_odd_names_are_words_and_plain_ones_stay_as_they_are():
    names = [*NAMES, *CONTROL, "", "\udcff"]
    assert pasted(map(as_word, names)) == [[name] for name in names]
    assert [as_word(name) for name in ("mails", "a:b", "A::B", "über", "x-1.2_3")] == [
        "mails",
        "a:b",
        "A::B",
        "über",
        "x-1.2_3",
    ]
    assert (as_argument("-x"), as_argument("x")) == ("-- -x", "x")
    assert [as_name(name) for name in ("low prio", " q", "a\nb", "")] == ["low prio", "' q'", r"$'a\nb'", ""]


@pytest.fixture
def odd(shared_server: Server, name: str) -> str:
    """A queue of that name with three jobs, which a class of that name has in the dead set, too; and others with names that look like it."""
    shared_server.command("SADD", "queues", name, *DECOYS)
    for number, queue in enumerate({name, *DECOYS}):
        fill(shared_server, f"queue:{queue}", 3, queue=queue, **{"class": queue})
        fill(
            shared_server,
            "dead",
            1,
            since=time.time() - 1000 + number,
            queue=queue,
            jid=f"dead{number}",
            **{"class": queue},
        )
    return name


def do(url: str, *words: str) -> str:
    """What a command says, of which all must be seen. Arguments that may look like options stand behind `--`."""
    before, names = (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, ())
    done = CliRunner().invoke(app, [*before, "--redis", url, *names])
    assert done.exception is None or before == ("doctor",), (done.output, done.exception)
    assert "--json" in before or all(map(seen, done.output.replace("\t", "").splitlines()))
    return done.output


def sizes(server: Server, name: str) -> tuple[int, int]:
    """Jobs in its queue, and in all the others."""
    return len(members(server, f"queue:{name}")), sum(len(members(server, f"queue:{queue}")) for queue in DECOYS)


OTHERS = 3 * len(DECOYS)


@pytest.mark.parametrize(
    "jid",
    [*(name for name in NAMES if len(name) < 256), *CONTROL, 42, -7, "42", 10**30, "a\\", '"', "/", "é" * 200, "ü/1"],
    ids=ascii,
)
@pytest.mark.parametrize("as_ascii", [False, True])
def test_commands_find_a_job_by_its_id_however_that_is_spelled(
    redis_url: str, shared_server: Server, jid: str | int, as_ascii: bool
):
    for number, each in enumerate([jid, *(decoy for decoy in ("q", "42x", "a", "xx", "4200", "-70") if decoy != jid)]):
        job = {"class": "A", "args": [f"{jid}"], "jid": each, "queue": "q", "x": 42}
        shared_server.command("ZADD", "schedule", 3e9 + number, json.dumps(job, ensure_ascii=as_ascii))
    before = len(members(shared_server, "schedule"))
    (shown,) = map(json.loads, do(redis_url, "show", "--json", "--", str(jid)).splitlines())
    assert (shown["jid"], shown["in"]) == (str(jid), "scheduled")
    said = do(redis_url, "run-now", "--", str(jid))
    assert pasted([said.replace(": sent", " sent")])[0][0] == str(jid)
    (moved,) = jobs_in(shared_server, "queue:q")
    assert moved["jid"] == jid
    do(redis_url, "delete", "--", str(jid))
    assert shared_server.command("EXISTS", "queue:q") == 0
    assert len(members(shared_server, "schedule")) == before - 1


@pytest.mark.parametrize("name", [*NAMES, *CONTROL], ids=ascii)
def test_commands_act_on_the_queue_that_is_named_and_on_no_other(redis_url: str, shared_server: Server, odd: str):
    assert do(redis_url, "jobs", "--where", f"class={odd}", "--", odd).count("\n") == 3
    assert do(redis_url, "requeue", "--where", f"queue={odd}", "--yes") == "1 job of the dead set requeued\n"
    assert sizes(shared_server, odd) == (4, OTHERS)
    said = do(redis_url, "bury", "--in", f"queue:{odd}", "--where", f"class={odd}", "--yes")
    assert pasted([said]) == [["4", "jobs", "of", "queue", odd, "buried"]]
    assert sizes(shared_server, odd) == (0, OTHERS)
    assert do(redis_url, "delete", "--in", "dead", "--where", f"class={odd}", "--yes").startswith("4 jobs")
    assert len(members(shared_server, "dead")) == len(DECOYS)
    if odd in CONTROL:
        assert "control character" in refused(redis_url, "requeue", "--all", "--in", "queue:q", "--to", odd, "--yes")
    else:
        do(redis_url, "requeue", "--all", "--in", "queue:q", "--to", odd, "--yes")
        assert sizes(shared_server, odd) == (3, OTHERS - 3)
    fill(shared_server, f"queue:{odd}", 1)
    said = do(redis_url, "purge", "--yes", "--", odd)
    assert pasted([said])[0][-2:] == [odd, "deleted"]
    assert shared_server.command("EXISTS", f"queue:{odd}") == 0
    assert set(shared_server.command("SMEMBERS", "queues")) == {*DECOYS}  # type: ignore[call-overload]


def test_what_is_said_and_advised_about_them_can_be_pasted(redis_url: str, shared_server: Server):
    for name in NAMES:
        (said, *_) = do(redis_url, "pause", "--", name).splitlines()
        assert pasted([said.removesuffix(": paused")]) == [[name]]
        waits = do(redis_url, "enqueue", "--", name, "A").splitlines()[-1]
        assert pasted([waits.split("trioworkers ")[-1]])[0][-1] == name
    for name in CONTROL:
        assert "control character" in refused(redis_url, "pause", name)
        shared_server.command("SADD", "paused", name)
        shared_server.command("SADD", "queues", name)
        shared_server.command("LPUSH", f"queue:{name}", payload(1))
    do(redis_url, "pause", *(f"--class={name}" for name in [*NAMES, *CONTROL]))
    advised = pasted(re.findall(r"trioworkers (resume .*)", do(redis_url, "doctor")))
    classes = [words for words in advised if "--class" in words]
    for words in advised:
        if words not in classes:
            do(redis_url, *words)
    do(redis_url, "resume", *(word for words in classes for word in words[1:]))
    assert shared_server.command("EXISTS", "paused", "tw:paused:classes") == 0
