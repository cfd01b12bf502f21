"""Contrast of the student's embedding with the expert's, by a memory of both for every training image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.losses import by_share
from ctkd_search.distill.training_network import Context, CountedRandom, TrainingNetwork
from ctkd_search.models.network import TappedNetwork

# Added to the denominators, as in the code of arXiv 1910.10699.
_EPSILON = 1e-7


class Contrasted(NamedTuple):
    """The student's embedding, and what contrasts it with the expert's.

    Attributes:
        embedding: The student's embedding, shape (batch, width).
        contrast: The contrast, part of the training network.
    """

    embedding: Tensor
    contrast: Contrast


class Contrastive(TrainingNetwork):
    """The student with a contrast; ``more`` of its `StudentOutput` is a `Contrasted`.

    Args:
        student: The student.
        contrast: The contrast.
    """

    def __init__(self, student: TappedNetwork, contrast: Contrast) -> None:
        super().__init__(student)
        self.contrast = contrast

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Contrasted]:
        """Returns the student's logits, its maps, and its embedding with the contrast."""
        logits, maps, embedding = self.student.with_embedding(images)
        return logits, maps, Contrasted(embedding, self.contrast)


class Contrast(nn.Module):
    """Linear heads of both embeddings, and a memory of what they gave for every training image.

    The memories, the two normalisation constants and the random numbers are buffers, and so part of the checkpoint.

    Args:
        context: Both architectures, the classes of the training images, and the seed.
        width: Width of the heads' outputs.
        negatives: Images of other classes that an image is contrasted with.
    """

    memories: Tensor
    scales: Tensor
    by_class: Tensor
    first: Tensor
    sizes: Tensor

    def __init__(self, context: Context, width: int, negatives: int) -> None:
        super().__init__()
        if context.labels is None or context.student.embedding is None or context.teacher.embedding is None:
            raise TypeError("a contrast needs the classes of the training images, and the embeddings of both networks")
        labels = torch.from_numpy(np.asarray(context.labels, dtype=np.int64))
        self.negatives = negatives
        with context.seeded("contrast"):
            self.own_head = nn.Linear(context.student.embedding, width)
            self.expert_head = nn.Linear(context.teacher.embedding, width)
            # The bound with which rows have length 1 on average.
            memories = torch.empty(2, len(labels), width).uniform_(-1, 1) * math.sqrt(3 / width)
        self.random = CountedRandom(context.seed_of("negatives"))
        # The student's and the expert's.
        self.register_buffer("memories", memories)
        # Logarithms of the normalisation constants; set by the first batch.
        self.register_buffer("scales", torch.zeros(2))
        sizes = torch.bincount(labels, minlength=context.geometry.classes)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("first", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)

    def forward(
        self,
        student: Tensor,
        expert: Tensor,
        lesson: Lesson,
        temperature: float | Tensor,
        momentum: float | Tensor,
    ) -> Tensor:
        """Contrasts a batch, and updates the memories with it.

        Args:
            student: The student's embedding, shape (batch, width).
            expert: The expert's embedding, shape (batch, width); no gradient flows to it.
            lesson: The lesson, whose labels and indices are read.
            temperature: Divisor of the cosines, greater than 0.
            momentum: Share of the old memory in the new one.

        Returns:
            The losses of the student and of the expert as anchors, added up, mean over the batch; a scalar.
        """
        if lesson.indices is None:
            raise TypeError("the lesson lacks the indices of its images")
        own = F.normalize(self.own_head(student), dim=1)
        given = F.normalize(self.expert_head(expert.detach()), dim=1)
        # A copy, because the memories change before the backward pass reads them.
        of_student, of_expert = self.memories.clone()
        begins = self.random.count == 0
        anchors = [(own / temperature, of_expert), (given / temperature, of_student)]
        # Scores with all images: to look up those of thousands of negatives is less work than to copy their vectors.
        scores = [vectors @ memory.T for vectors, memory in anchors]
        positives = [(vectors * memory[lesson.indices]).sum(dim=1, keepdim=True) for vectors, memory in anchors]

        def contrasted(labels: Tensor) -> Tensor:
            chosen, weights = self._chosen(labels)
            negatives = scores if chosen is None else [each.gather(1, chosen) for each in scores]
            first, second = (
                self._losses(anchor, positives[anchor], negatives[anchor], weights, begins) for anchor in (0, 1)
            )
            return first + second

        loss = by_share(contrasted, lesson).mean()
        with torch.no_grad():
            for memory, vectors in zip(self.memories, (own, given), strict=True):
                _remember(memory, vectors, lesson.indices, momentum)
        return loss

    def _chosen(self, labels: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Returns the images that those of a batch are contrasted with, shape (batch, negatives).

        They are drawn from the images of other classes, each time from all of them. Where all images are no more than
        the negatives, all of them are taken (None), and of other classes each counts as often as it would be drawn on
        average; these counts are the second result, shape (batch, images).
        """
        count = self.by_class.shape[0]
        others = (count - self.sizes[labels]).clamp_min(1).unsqueeze(1)
        places = self.random.below(others, 1 if count <= self.negatives else self.negatives)
        if count > self.negatives:
            # Images are ordered by class; those of the own class are skipped.
            first, size = self.first[labels].unsqueeze(1), self.sizes[labels].unsqueeze(1)
            return self.by_class[places + size * (places >= first)], None
        order = torch.arange(count, device=labels.device)
        first, size = self.first[labels].unsqueeze(1), self.sizes[labels].unsqueeze(1)
        inside = (order >= first) & (order < first + size)
        weights = torch.empty(inside.shape, device=labels.device)
        weights[:, self.by_class] = ~inside * (self.negatives / others)
        return None, weights

    def _losses(
        self, anchor: int, positive: Tensor, negative: Tensor, weights: Tensor | None, begins: Tensor
    ) -> Tensor:
        """Returns the loss of each image as one of the anchors, from its scores with the positive and the negatives."""
        images, negatives = self.by_class.shape[0], self.negatives
        with torch.no_grad():
            counted = negative if weights is None else negative + weights.log()
            total = torch.cat([positive.flatten(), counted.flatten()]).logsumexp(dim=0)
            scale = total - math.log(positive.shape[0] * (negatives + 1)) + math.log(images)
            self.scales[anchor] = torch.where(begins, scale, self.scales[anchor])
        noise = negatives / images
        # In logarithms, because the exponential of a score is infinite at low temperatures.
        shift = self.scales[anchor].clone() + math.log(noise + _EPSILON)
        apart = F.softplus(negative - shift) + math.log(noise + _EPSILON) - math.log(noise)
        return F.softplus(shift - positive).sum(dim=1) + (apart if weights is None else apart * weights).sum(dim=1)


def _remember(memory: Tensor, vectors: Tensor, indices: Tensor, momentum: float | Tensor) -> None:
    """Moves the rows of some images towards vectors, and brings them to length 1."""
    # An image may be in a batch twice; then both write the same row.
    same = (indices.unsqueeze(0) == indices.unsqueeze(1)).to(vectors.dtype)
    mean = same @ vectors / same.sum(dim=1, keepdim=True)
    memory.index_copy_(0, indices, F.normalize(momentum * memory[indices] + (1 - momentum) * mean, dim=1))
