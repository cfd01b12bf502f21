"""Images: the data sets by name, the validation split, and the stream of augmented batches.

`describe` and `geometry` answer without torch, so that a space can be checked in no time. A data set is one
module of `ctkd_search.data.sets` that defines ``DATASET``.
"""

from ctkd_search.data.dataset import OWN_OPTIONS, DataSet, Splits
from ctkd_search.data.images import ImageFiles, Images
from ctkd_search.data.own import OwnData
from ctkd_search.data.registry import (
    absent,
    describe,
    find,
    geometry,
    load_test,
    load_train,
    names,
    notes,
    problems,
    recognised,
    resolved,
    sizes,
    test_fault,
)

__all__ = [
    "OWN_OPTIONS",
    "DataSet",
    "ImageFiles",
    "Images",
    "OwnData",
    "Splits",
    "absent",
    "describe",
    "find",
    "geometry",
    "load_test",
    "load_train",
    "names",
    "notes",
    "problems",
    "recognised",
    "resolved",
    "sizes",
    "test_fault",
]
