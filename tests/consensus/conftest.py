import pytest

from hamail.consensus import seams


@pytest.fixture(autouse=True)
def stock_library():
    """Each test begins and ends with PySyncObj as shipped; starting a node of ours installs the seams."""
    seams.remove()
    yield
    seams.remove()
