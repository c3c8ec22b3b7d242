import subprocess

import pytest


@pytest.fixture
def redis_url():
    subprocess.run(["redis-cli", "-p", "7777", "flushall"], check=True, capture_output=True)
    return "redis://127.0.0.1:7777/0"
