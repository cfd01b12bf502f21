"""Networks as a user would bring them, from outside the package."""

import torch
from torch import nn


class Plain(nn.Module):
    """Three convolutions of growing stride, a pooling in one call with the flattening, and a linear layer."""

    def __init__(self, classes, channels):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Linear(24, classes)

    def forward(self, images):
        features = self.third(self.second(self.first(images)))
        return self.head(features.mean(dim=(2, 3)))


def plain(classes, channels, image_size):
    return Plain(classes, channels)


class Noisy(Plain):
    """With dropout, which draws random numbers."""

    def forward(self, images):
        features = nn.functional.dropout(self.third(self.second(self.first(images))), 0.3, self.training)
        return self.head(features.mean(dim=(2, 3)))


def noisy(classes, channels, image_size):
    return Noisy(classes, channels)


class TwoHeads(Plain):
    """The mean of two classifiers, which have no embedding in common."""

    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.other = nn.Linear(12, classes)

    def forward(self, images):
        second = self.second(self.first(images))
        mine, theirs = self.third(second).mean(dim=(2, 3)), second.mean(dim=(2, 3))
        return (self.head(mine) + self.other(theirs)) / 2


def two_heads(classes, channels, image_size):
    return TwoHeads(classes, channels)


class Branching(Plain):
    """Looks at its images' values, which a graph cannot."""

    def forward(self, images):
        features = self.third(self.second(self.first(images)))
        if images.mean() > 1000:
            features = features / 2
        return self.head(features.mean(dim=(2, 3)))


def branching(classes, channels, image_size):
    return Branching(classes, channels)


class Counting(Plain):
    """Looks at the number of its images, which a graph would keep as it was."""

    def forward(self, images):
        features = self.third(self.second(self.first(images)))
        return self.head(torch.stack([features[place].mean(dim=(1, 2)) for place in range(len(features))]))


def counting(classes, channels, image_size):
    return Counting(classes, channels)


class Elsewhere(Plain):
    """Computes a part of it without torch."""

    def forward(self, images):
        return super().forward(images) + float(images.detach().numpy().mean())


def elsewhere(classes, channels, image_size):
    return Elsewhere(classes, channels)


def refuses_meta(classes, channels, image_size):
    """Looks at its own weights while it is made, which has no answer without numbers."""
    made = Plain(classes, channels)
    assert torch.stack([weight.abs().max() for weight in made.parameters()]).max().item() > 0
    return made


def no_network(classes, channels, image_size):
    return "a network"


def wrong_logits(classes, channels, image_size):
    return Plain(classes + 1, channels)


def no_maps(classes, channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


def breaks(classes, channels, image_size):
    raise RuntimeError(f"no weights for {classes} classes")


NUMBER = 3
