"""Which process of a distributed run gets which test, also after one of them has ended with its test.

pytest-xdist 3.8 needs help with both. With pytest 9.2 its marks for groups have no effect, because the names of tests can't be changed any more. After a
process has ended, the test that ended it is run again, and ends the next one. Then the run hangs, because a process waits for tests that are done already,
or for a second test, or is given tests before it knows them (its issues 1189, 1323, 1327 and 1378).
"""

from __future__ import annotations

from contextlib import suppress

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = {
    "chromium": ("tests/web/test_web_browser.py", "tests/web/test_web_left_open.py", "tests/web/test_web_people.py"),
    "cluster": ("tests/faults/test_cluster.py",),
    "django": ("tests/test_django.py", "tests/test_django_traces.py"),
    "mypy": ("tests/test_types.py::test_program", "tests/test_types.py::test_each_mistake"),
    "node-resque": ("tests/interop/test_node_resque.py",),
    "package": ("tests/test_package.py",),
    "sentinel": ("tests/faults/test_sentinel.py",),
    "shop": ("tests/interop/test_matrix.py", "tests/interop/test_rails.py"),
    "walls": ("tests/test_walls.py",),
}
"""How the names of tests begin that one process runs, one after the other: they share what is dear to make."""


class Distribution(LoadScopeScheduling):
    """Whoever has next to nothing left gets the next test, or the next tests that belong together.

    A test whose process ended has failed, and isn't run again. The others are.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group, names in TOGETHER.items() if nodeid.startswith(names)), nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        units = self.assigned_work.pop(node)
        ended_it = next((test for unit in units.values() for test, done in unit.items() if not done), None)
        if ended_it is not None:
            units[self._split_scope(ended_it)][ended_it] = True
        self.workqueue.update({scope: unit for scope, unit in units.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return ended_it

    def _assign_work_unit(self, node: WorkerController) -> None:
        with suppress(
            OSError
        ):  # its process has just ended: who is told of that next finds here what others are to run
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:
            return  # a new one, which looks yet which tests there are
        super()._reschedule(node)
        if self._pending_of(self.assigned_work[node]) == 1:
            super()._reschedule(node)  # it begins no test before it knows the one after
