"""Fixtures that the tests of several parts of the core use."""

import pytest
from support.tiny import tiny_splits

from ctkd_search.distill.cache import TeacherCache


@pytest.fixture(scope="module")
def splits():
    """The first few digits."""
    return tiny_splits()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that the tests of a file share, so that they train the same teacher once."""
    return TeacherCache(tmp_path_factory.mktemp("teachers"))
