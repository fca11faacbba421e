import pytest
import structlog

from hamail.simulation.logs.quiet import quiet


@pytest.fixture(autouse=True)
def no_log_lines():
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)
