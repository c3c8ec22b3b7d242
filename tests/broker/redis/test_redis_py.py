"""What redis-py's errors mean for the connections that they came over."""

from __future__ import annotations

import pytest
from redis import exceptions

from trioworkers.broker.redis_py import is_elsewhere


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (exceptions.ReadOnlyError("You can't write against a read only replica."), True),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"), True),
        (exceptions.MasterDownError("MASTERDOWN Link with MASTER is down"), True),
        (exceptions.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), False),
        (exceptions.ResponseError("WRONGTYPE NOREPLICAS"), False),
    ],
    ids=str,
)
def test_server_that_is_cut_off_or_demoted_may_be_the_wrong_one(error: Exception, elsewhere: bool):
    assert is_elsewhere(error) is elsewhere
