"""A place more in the table of places is known everywhere: a throw-away one is added, and every command is asked for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from acting import fill, jobs_in, payload
from click.testing import CliRunner
from servers import Server

import trioworkers
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.people import acts
from trioworkers.broker.people.key_findings import key_findings
from trioworkers.broker.people.permissions import forbidden
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.cli.commands import app
from trioworkers.wire import places
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Place

SHELF = """
from trioworkers.wire import places
from trioworkers.wire.keys import Keys
Keys.shelf = property(lambda keys: keys._own("tw:shelf"))
places._TABLE["shelf"] = places.Place(
    "shelf", "set", "shelf", places._acts("retry requeue bury delete export import"), score="shelved", command="shelf",
    about="Show jobs on the shelf."
)
"""


def shelved(server: Server, *words: str, given: str = "") -> str:
    """What a command says that knows the place."""
    program = f"{SHELF}\nfrom trioworkers.cli import main; main()"
    command = [sys.executable, "-c", program, *words, *([] if "--help" in words else ["--redis", server.url])]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def seeded(redis_url: str, shared_server: Server) -> Server:
    assert redis_url == shared_server.url
    fill(shared_server, "tw:shelf", 5)
    return shared_server


def test_it_is_listed_counted_filtered_shown_and_totalled(seeded: Server):
    assert re.findall(r"jid\d", shelved(seeded, "shelf")) == [f"jid{n}" for n in range(5)]
    assert json.loads(shelved(seeded, "shelf", "--json", "--where", "jid=jid3"))["in"] == "shelf"
    assert "3 more" in shelved(seeded, "shelf", "--limit", "2")
    said = shelved(seeded, "show", "jid2")
    assert "in the shelf set" in said
    assert re.search(r"^shelved +\d{4}-", said, re.MULTILINE)
    assert json.loads(shelved(seeded, "stats", "--json"))["shelf"] == 5
    assert "shelf 5" in shelved(seeded, "stats")


def test_it_is_moved_from(seeded: Server):
    assert "would be" in shelved(seeded, "delete", "--all", "--in", "shelf", "--dry-run")
    shelved(seeded, "delete", "jid0")
    shelved(seeded, "requeue", "--where", "jid=jid1", "--in", "shelf", "--yes")
    shelved(seeded, "retry", "--where", "jid=jid2", "--in", "shelf", "--yes")
    shelved(seeded, "bury", "--where", "jid=jid3", "--in", "shelf", "--yes")
    where = {key: [job["jid"] for job in jobs_in(seeded, key)] for key in ("queue:q", "dead", "tw:shelf")}
    assert where == {"queue:q": ["jid1", "jid2"], "dead": ["jid3"], "tw:shelf": ["jid4"]}


def test_it_is_exported_and_imported(seeded: Server, tmp_path: Path):
    before = seeded.command("ZRANGE", "tw:shelf", 0, -1, "WITHSCORES")
    shelved(seeded, "export", "shelf", "-o", str(tmp_path / "shelf.jsonl"))
    seeded.command("DEL", "tw:shelf")
    assert "5 jobs imported" in shelved(seeded, "import", str(tmp_path / "shelf.jsonl"))
    assert seeded.command("ZRANGE", "tw:shelf", 0, -1, "WITHSCORES") == before


def test_help_tells_of_it(seeded: Server):
    assert "Show jobs on the shelf." in shelved(seeded, "--help")
    for command in ("delete", "export"):
        assert "shelf" in shelved(seeded, command, "--help")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keys, "shelf", property(lambda keys: keys._own("tw:shelf")), raising=False)
    monkeypatch.setitem(places._TABLE, "shelf", Place("shelf", "set", "shelf", places._acts("delete"), score="shelved"))


@pytest.mark.usefixtures("shelf")
async def test_completion_finds_it_and_doctor_looks_at_its_key(seeded: Server, monkeypatch: pytest.MonkeyPatch):
    from trioworkers.cli import suggestions  # noqa: PLC0415 - of the same process as the table

    async with connect(seeded.url, Link("")) as connection:
        assert await key_findings(connection, Keys(), []) == []
        seeded.command("SET", "tw:shelf", "of the wrong type")
        (finding,) = await key_findings(connection, Keys(), [])
        assert "tw:shelf is a string" in finding.text
        assert await forbidden(connection, Keys()) == []  # it is no missing permission
    seeded.command("DEL", "tw:shelf")
    fill(seeded, "tw:shelf", 1)
    monkeypatch.setattr(suggestions, "PATIENCE_S", 30.0)
    assert suggestions.suggest(suggestions.places, seeded.url, None) == [
        "dead",
        "next",
        "parked",
        "retry",
        "scheduled",
        "shelf",
        "waiting",
    ]
    assert suggestions.suggest(suggestions.jids, seeded.url, None) == ["jid0"]


@pytest.mark.usefixtures("shelf")
def test_fake_and_entries_know_it():
    assert list(FakeBroker().sets["shelf"]) == []
    entry = Entry("shelf", payload(1).encode(), score=5.0)
    assert (entry.since_s, entry.due_s, entry.attempt) == (5.0, None, 1)


def test_places_are_spelled_out_in_one_file():
    spelled = re.compile(r'"retry", "scheduled"|"scheduled", "dead"|retry, scheduled')
    package = Path(trioworkers.__file__).parent
    assert [path.name for path in package.rglob("*.py") if spelled.search(path.read_text())] == ["places.py"]


@pytest.mark.parametrize("name", ["retry", "run-now", "requeue", "bury", "delete"])
def test_help_names_the_places_that_the_command_takes(name: str):
    act = getattr(acts, name.replace("-", "_"))
    done = CliRunner().invoke(app, [name, "--help"])
    said = re.search(r"--in PLACE +Where: ([^.]*)\.", " ".join(done.stdout.split()))
    assert said is not None
    every = act("q") if name == "requeue" else act()
    assert re.split(r", | or,? ", said[1].replace("with --to, ", "")) == [place.shown for place in every.places]
