"""The methods: how a lesson becomes a loss. Adding one is adding a module that defines ``METHOD``.

The names here are what a method of the user's own is written with.
"""

from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.distill.methods.setting import Setting
from ctkd_search.distill.requests import EMBEDDING, LOGITS, Needs, TeacherOutput
from ctkd_search.fields import Range

__all__ = [
    "EMBEDDING",
    "LOGITS",
    "Lesson",
    "Method",
    "Needs",
    "Parameter",
    "Range",
    "Setting",
    "StudentOutput",
    "TeacherOutput",
]
