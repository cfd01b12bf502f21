"""The training network of the methods that compare pooled embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.requests import EMBEDDING

if TYPE_CHECKING:
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.network import TappedNetwork


class Embedded(Method):
    """A method that compares the student's embedding, ``output.more``, where it needs the expert's."""

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student, with its embedding if that is compared."""
        if EMBEDDING not in self.needs.expert:
            return student
        from ctkd_search.distill.auxiliary import WithEmbedding

        return WithEmbedding(student)
