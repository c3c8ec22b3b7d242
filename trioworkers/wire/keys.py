"""Every key name. Sidekiq's own as Sidekiq has them; what is ours alone under `tw:`; a namespace before all."""

from __future__ import annotations

import re
from datetime import datetime
from typing import ClassVar

import attrs

QUEUE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""A queue that we serve: what Sidekiq's web page can show, and without the space that separates names in our registry."""
MAX_SENT_TO = 1024
"""Characters of a queue's name to which people may send. Redis takes any; but who means a queue means less."""
IN_PROGRESS = ":inprogress"
_CONTROL = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
"""Control characters, and halves of characters, which have no form in UTF-8. None is printable; so nearly no name has to be searched for them, and nobody waits for this to be compiled."""


def is_queue_name(name: object) -> bool:
    """Whether a queue of ours may be called so. Not as an in-progress list's key goes on: `q:b:inprogress` would be what process b has of q."""
    return isinstance(name, str) and QUEUE_NAME.fullmatch(name) is not None and not name.endswith(IN_PROGRESS)


def hides_a_queue(namespace: str) -> bool:
    """Whether keys behind this namespace may be those of another one: queue `c` behind `a:queue:b` is `b:queue:c` behind `a`."""
    return "queue" in namespace.split(":")


def check_sent_to(name: object) -> str:
    """Why jobs can't be sent to a queue of this name; "" if they can. It may be another program's, which has other rules than ours."""
    if not isinstance(name, str) or not name:
        return f"a queue's name is a text, not {name!r:.80}"
    if len(name) > MAX_SENT_TO or (not name.isprintable() and re.search(_CONTROL, name)):
        return f"a queue's name has at most {MAX_SENT_TO} characters, of which none is a control character, not {name!r:.80}"
    if name.endswith(IN_PROGRESS):
        return f"{name!r:.80} is no queue: a name with this end is a list of running jobs"
    return ""


@attrs.frozen
class Keys:
    """The key names of one Redis database under one namespace ("" for none), as Sidekiq has them.

    Queues may lie in another namespace than their worker (Resque's, say). What is about workers, and what is ours, is then in `worker_namespace`.
    """

    family: ClassVar[str] = "sidekiq"
    namespace: str = ""
    worker_namespace: str = attrs.field(default=attrs.Factory(lambda self: self.namespace, takes_self=True))

    def _key(self, name: str) -> str:
        return f"{self.namespace}:{name}" if self.namespace else name

    @property
    def tag(self) -> str:
        """Dialect tag: what tells these keys from others of the same worker, as `resque:resque`; nothing for Sidekiq's own in its namespace."""
        plain = self.family == "sidekiq" and self.namespace == self.worker_namespace
        return "" if plain else f"{self.family}:{self.namespace}"

    def _own(self, name: str) -> str:
        return f"{self.worker_namespace}:{name}" if self.worker_namespace else name

    # Sidekiq's
    def queue(self, queue: str) -> str:
        """List: the queue's payloads; newest left, fetched from the right."""
        return self._key(f"queue:{queue}")

    @property
    def queues(self) -> str:
        """Set: names of all queues."""
        return self._key("queues")

    @property
    def schedule(self) -> str:
        """Sorted set: payloads by the time when they are due, in epoch seconds."""
        return self._key("schedule")

    @property
    def waiting(self) -> str | tuple[str, str, str]:
        """Where jobs that are scheduled wait: a sorted set, or what another family has instead."""
        return self.schedule

    @property
    def retry(self) -> str:
        """Sorted set: failed payloads by the time of their next attempt, in epoch seconds."""
        return self._key("retry")

    @property
    def dead(self) -> str:
        """Sorted set: payloads that failed for good, by time of death in epoch seconds."""
        return self._key("dead")

    @property
    def processes(self) -> str:
        """Set: identities of all worker processes, Ruby's and ours."""
        return self._own("processes")

    def process(self, identity: str) -> str:
        """Hash: one process's heartbeat record."""
        return self._own(identity)

    def running(self, identity: str) -> tuple[str, str]:
        """Hashes of running jobs: where Sidekiq from 6.4.2 on looks, and where older ones do."""
        return self._own(f"{identity}:work"), self._own(f"{identity}:workers")

    def signals(self, identity: str) -> str:
        """List: what Sidekiq's web page wants this process to do (TSTP, TERM, TTIN)."""
        return self._own(f"{identity}-signals")

    @property
    def paused(self) -> str:
        """Set: names of paused queues. Sidekiq Pro's; the web page of a Sidekiq from 8.1.1 on shows it."""
        return self._own("paused")

    def stat(self, name: str, day: str = "") -> str:
        """Counter `processed` or `failed`: in all, or on a UTC day (YYYY-MM-DD)."""
        return self._key(f"stat:{name}:{day}" if day else f"stat:{name}")

    def job_counts(self, at: datetime) -> tuple[str, str, str]:
        """Hashes: how jobs of each class ended, in this minute as Sidekiq 7 and as 8 name it, and in these ten (8). In UTC."""
        seven, eight = f"j|{at:%Y%m%d}|{at.hour}:", f"j|{at:%y%m%d}|{at.hour}:"
        return (
            self._own(f"{seven}{at.minute}"),
            self._own(f"{eight}{at.minute:02}"),
            self._own(f"{eight}{at.minute // 10}"),
        )

    def job_times(self, job_class: str, at: datetime) -> tuple[str, str]:
        """Bit fields: how long successful jobs of a class took in this minute, as Sidekiq 7 and as 8 name them. In UTC."""
        seven, eight = f"{job_class}-{at:%d-%H}:{at.minute}", f"h|{job_class}-{at.day}-{at.hour}:{at.minute}"
        return self._own(seven), self._own(eight)

    def stats(self, name: str, day: str, worker: str) -> tuple[str, str]:
        """Counters of what was `processed` or `failed`: in all, and on that day (or, in Resque, by that worker)."""
        del worker
        return self.stat(name), self.stat(name, day)

    # go-workers'
    def in_progress(self, queue: str, process_id: str) -> str:
        """List: fetched, unsettled payloads of one worker; newest left. go-workers has the same."""
        return self._key(f"queue:{queue}:{process_id}{IN_PROGRESS}")

    # ours
    @property
    def in_progress_lists(self) -> str:
        """Hash: each in-progress list that may hold something → `PROCESS_ID SPACE QUEUE` (and, if need be, `SPACE DIALECT`)."""
        return self._own("tw:inprogress")

    def lease(self, process_id: str) -> str:
        """String with expiry: who holds this process id. Gone means: that worker gave no sign of life for a lease."""
        return self._own(f"tw:lease:{process_id}")

    def last_settle(self, process_id: str) -> str:
        """String: number and result of the last group of outcomes, so that a retried call does nothing twice."""
        return self._own(f"tw:settled:{process_id} {self.tag}" if self.tag else f"tw:settled:{process_id}")

    @property
    def outage(self) -> str:
        """String with expiry: workers are back from an outage, and wait until this is gone for those who aren't."""
        return self._own("tw:outage")

    def drained(self, process_id: str) -> str:
        """Set with expiry: in-progress lists of a worker that died, from which all was taken back. While no worker of ours has that id, others may use them."""
        return self._own(f"tw:drained:{process_id}")

    @property
    def crashes(self) -> str:
        """Hash: jid → its crash count: how many workers died under that job."""
        return self._own("tw:crashes")

    def suspects(self, process_id: str) -> str:
        """Hash: jids of the suspects that this worker has started → whether each was alone (see `engine/quarantine.py`)."""
        return self._own(f"tw:suspects:{process_id}")

    @property
    def paused_classes(self) -> str:
        """Set: the paused classes, whose jobs are held."""
        return self._own("tw:paused:classes")

    def control(self, process_id: str) -> str:
        """List with expiry: control messages for a running worker (see `wire/control_messages.py`)."""
        return self._own(f"tw:control:{process_id}")

    def reply(self, token: str) -> str:
        """String with expiry: a worker's reply to the control message of this token."""
        return self._own(f"tw:reply:{token}")

    def restored(self, token: str) -> str:
        """String with expiry: this group of an export was put back into its queue."""
        return self._own(f"tw:restored:{token}")

    def last_call(self, process_id: str) -> str:
        """String with expiry: the number of the last call by which a worker took back what was in its own lists."""
        return self._own(f"tw:called:{process_id}")

    def last_report(self, process_id: str) -> str:
        """String with expiry: the last report of how its jobs ended that a worker wrote."""
        return self._own(f"tw:reported:{process_id}")

    def sent(self, token: str) -> str:
        """String with expiry: a client's call of this token was executed."""
        return self._own(f"tw:sent:{token}")

    @property
    def own(self) -> str:
        """What all keys of ours begin with: scripts that deal with what is held build theirs from it."""
        return self._own("tw:")

    @property
    def limits(self) -> str:
        """Hash: name of a limit → msgpack of its numbers, and of when the worker started and was last heard of that declared it so."""
        return self._own("tw:limits")

    def holds(self, queue: str, process_id: str) -> str:
        """Hash beside an in-progress list: what its attempts hold."""
        return self._own(f"tw:holds:{process_id} {queue} {self.tag}" if self.tag else f"tw:holds:{process_id} {queue}")

    def last_admission(self, queue: str, process_id: str) -> str:
        """String with expiry: number and result of the last admission to a queue, so that a repeated or late one does nothing twice."""
        return self.holds(queue, process_id).replace("tw:holds:", "tw:admitted:", 1)

    def last_fetch(self, queue: str, process_id: str) -> str:
        """String with expiry: number and result of the last fetch of large payloads from a queue, until they are read."""
        return self.holds(queue, process_id).replace("tw:holds:", "tw:fetched:", 1)

    @property
    def parked(self) -> str:
        """Sorted set: payloads that wait for a permit, by when they were parked, in epoch seconds."""
        return self._own("tw:parked")

    @property
    def unique(self) -> str:
        """Hash: key of a lock → msgpack of the jid that holds it, since when, and what is to follow it."""
        return self._own("tw:unique")

    @property
    def next(self) -> str:
        """Sorted set: payloads that are to replace or follow the job that has their lock, by when they were sent, in epoch seconds."""
        return self._own("tw:next")

    def throttle(self, key: str) -> str:
        """String with expiry: jid of the throttled job that was sent; until this is gone no other is."""
        return self._own(f"tw:throttle:{key}")

    def history(self, hour: str) -> str:
        """Hash, of an hour since 1970: minute → how many jobs waited, and for how long the next one. Behind `:queues` the same by queue."""
        return self._own(f"tw:history:{hour}")

    @property
    def searching(self) -> str:
        """String with expiry: who has begun to search for what others deleted."""
        return self._own("tw:searching")

    def last_claim(self, queue: str, process_id: str) -> str:
        """String with expiry: number and result of the last time that jobs fetched from a queue were held to their locks."""
        return self.holds(queue, process_id).replace("tw:holds:", "tw:claimed:", 1)

    @property
    def cron(self) -> str:
        """Sorted set: names of periodic jobs' entries by their next tick, in epoch seconds; inf for what is paused, broken or never due again."""
        return self._own("tw:cron")

    @property
    def cron_news(self) -> str:
        """String with expiry: there for some seconds after an entry became due sooner than workers know."""
        return self._own("tw:cron_news")

    def cron_entry(self, name: str) -> str:
        """Hash: what a periodic job is, and who says so."""
        return self._own(f"tw:cron:{name}")

    def runs(self, name: str) -> str:
        """Hash: jid → msgpack of the tick of one of an entry's last runs, when it was sent, how it ended, when."""
        return self._own(f"tw:runs:{name}")

    @property
    def cron_declared(self) -> str:
        """Hash: what stands for all entries of a process's code → when such a process was last heard of, in epoch seconds."""
        return self._own("tw:cron_declared")

    def cron_names(self, schedule: str) -> str:
        """Set: the entries for which that stands."""
        return self._own(f"tw:cron_names:{schedule}")

    @property
    def repairs(self) -> str:
        """List: effects that could not be written with the outcomes that they belong to."""
        return self._own("tw:repairs")

    @property
    def unread(self) -> str:
        """List: beginning and end of payloads that were buried unread, and name something that they hold: msgpack."""
        return self._own("tw:unread")

    @property
    def outboxes(self) -> str:
        """Set: the shards for which something waits in an outbox."""
        return self._own("tw:outboxes")

    def outbox(self, shard: str) -> str:
        """List: what jobs here enqueued into that shard, and is to be taken there; the oldest first."""
        return self._own(f"tw:outbox:{shard}")

    @property
    def outbox_numbers(self) -> str:
        """Hash: shard → msgpack of what the numbering of its outbox is called, how many entries it has had, and the id of the last of these."""
        return self._own("tw:outbox_numbers")

    @property
    def received(self) -> str:
        """Hash: what the numbering of another shard's outbox is called → msgpack of the last entry's number, its id, and when it came."""
        return self._own("tw:received")

    def task(self, jid: str) -> str:
        """String with expiry: how far a Django task is."""
        return self._own(f"tw:task:{jid}")

    @property
    def successors(self) -> str:
        """Sorted set: payloads that wait for other jobs of their batch, by when they were sent, in epoch seconds."""
        return self._own("tw:successors")

    @property
    def batches(self) -> str:
        """Sorted set: the ids of batches by when they moved last."""
        return self._own("tw:batches")

    def batch(self, batch: str) -> str:
        """Hash: what a batch is, and how many of its members ended how. Beside it, behind `:jids` and `:dead`, sets of its members."""
        return self._own(f"tw:batch:{batch}")

    @property
    def cancelled_batches(self) -> str:
        """Set: the ids of batches that are cancelled and not over."""
        return self._own("tw:cancelled")

    @property
    def moving(self) -> str:
        """List: what the ends of members have others do, and what is still to be done of it."""
        return self._own("tw:moving")

    def ruby_iteration(self, jid: str) -> str:
        """Where an iterable job of Ruby's is (Sidekiq 7.3 and newer): hash."""
        return self._key(f"it-{jid}")

    def steps(self, jid: str) -> str:
        """Hash: what steps of a job returned, by name, where its payload has no room for it."""
        return self._own(f"tw:steps:{jid}")

    def result(self, jid: str) -> str:
        """String with expiry: how a job ended, and what it returned."""
        return self._own(f"tw:result:{jid}")

    def progress(self, jid: str) -> str:
        """String with expiry: how far a job says it is, or was when it ended."""
        return self._own(f"tw:progress:{jid}")

    def log(self, jid: str) -> str:
        """String with expiry: the last log lines of a job that keeps them."""
        return self._own(f"tw:log:{jid}")

    @property
    def finished_classes(self) -> str:
        """Set: the classes of which it is kept how jobs ended."""
        return self._own("tw:finished")

    def finished(self, job_class: str) -> str:
        """List with expiry: how the last jobs of a class ended, the newest first."""
        return self._own(f"tw:finished:{job_class}")
