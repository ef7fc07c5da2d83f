"""What all tests share: Hypothesis without deadlines, for the machine runs other things as well."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # run in the background of a shell; children
    signal.signal(signal.SIGINT, signal.default_int_handler)  # would not hear it either

_MANY = 300  # descriptors; select(2) knows 1,024


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Takes the tracer off what is marked no_cover. pytest-cov 7.1 does that too, but a worker of
    pytest-xdist has two coverages, and when one is taken off the other goes on.
    """
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def few_descriptors() -> Iterator[None]:
    """Lets the sockets of earlier tests go: what was joined in cycles keeps them for long."""
    yield
    if len(os.listdir("/proc/self/fd")) > _MANY:
        gc.collect()
