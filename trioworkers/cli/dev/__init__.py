"""What `trioworkers dev` does: a Redis, a worker process beside it, and a new one whenever the code changes.

    reload ── note             says where our Redis is, locked while we live
      ├────── redises          opened when the worker's App first asks for one, kept over its restarts
      ├────── watcher          a thread; changes of Python files
      └────── worker_process   the worker, in a session of its own, so that Ctrl-C is for us to handle
                └─ worker      what runs in it

The worker talks to us over a socket (`messages`): it loads the App, says which Redis that wants, and is told which one it gets. When the
socket closes, however we end, the worker stops; and the embedded server ends with its pipe to us. So nothing is left behind.
"""
