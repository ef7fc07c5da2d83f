"""What all tests share: Hypothesis without deadlines, for the machine runs other things as well."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # run in the background of a shell; children
    signal.signal(signal.SIGINT, signal.default_int_handler)  # would not hear it either

_MANY = 300  # descriptors; select(2) knows 1,024


@pytest.fixture(autouse=True)
def few_descriptors() -> Iterator[None]:
    """Lets the sockets of earlier tests go: what was joined in cycles keeps them for long."""
    yield
    if len(os.listdir("/proc/self/fd")) > _MANY:
        gc.collect()
