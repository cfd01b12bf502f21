"""The networks of published distillation code, by the names of their weights and what they compute.

Written from their structure, and independent of this package's networks, which are compared with them.
"""

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu


def conv(inputs, outputs, kernel=3, stride=1, groups=1, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


def pooled(features):
    return features.mean(dim=(2, 3))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        # None where width and so size stay, which is no entry of the state dict.
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x):
        active = relu(self.bn1(x))
        out = self.conv2(relu(self.bn2(self.conv1(active))))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Layer(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class Wide(nn.Module):
    """Wide ResNet of RepDistiller and mdistiller."""

    def __init__(self, depth, width, classes, channels=3):
        super().__init__()
        n, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = conv(channels, 16)
        for i in range(3):
            blocks = [WideBlock(widths[i], widths[i + 1], 2 if i else 1)]
            blocks += [WideBlock(widths[i + 1], widths[i + 1], 1) for _ in range(n - 1)]
            setattr(self, f"block{i + 1}", Layer(blocks))
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], classes)

    def forward(self, x):
        first = self.block1(self.conv1(x))
        second = self.block2(first)
        third = self.block3(second)
        return self.fc(pooled(relu(self.bn1(third)))), [first, second, third]


class RawShortcutBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Sequential(*([conv(inputs, outputs, 1, stride)] if changes else []))

    def forward(self, x):
        return self.conv2(relu(self.bn2(self.conv1(relu(self.bn1(x)))))) + self.shortcut(x)


class RawShortcutWide(nn.Module):
    """Wide ResNet of torchdistill: as many weights, and other outputs."""

    def __init__(self, depth, width, classes, channels=3):
        super().__init__()
        n, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = conv(channels, 16)
        for i in range(3):
            blocks = [RawShortcutBlock(widths[i], widths[i + 1], 2 if i else 1)]
            blocks += [RawShortcutBlock(widths[i + 1], widths[i + 1], 1) for _ in range(n - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], classes)

    def forward(self, x):
        maps = []
        x = self.conv1(x)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            maps.append(x)
        return self.fc(pooled(relu(self.bn1(x)))), maps


class ResidualBlock(nn.Module):
    """A basic block, or a bottleneck where `inner` says how wide it is inside."""

    def __init__(self, inputs, outputs, stride, shortcut, inner=None):
        super().__init__()
        shapes = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
        if inner:
            shapes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        self.depth = len(shapes)
        for number, (into, out, kernel, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{number}", conv(into, out, kernel, step))
            setattr(self, f"bn{number}", nn.BatchNorm2d(out))
        self.beside = shortcut if stride != 1 or inputs != outputs else None
        if self.beside:
            setattr(self, shortcut, nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)))

    def forward(self, x):
        out = x
        for number in range(1, self.depth + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            if number < self.depth:
                out = relu(out)
        return relu(out + (getattr(self, self.beside)(x) if self.beside else x))


class Residual(nn.Module):
    """ResNets; RepDistiller's and mdistiller's of three stages say downsample and fc, of four shortcut and linear."""

    def __init__(self, stem, widths, counts, classes, channels=3, bottleneck=False, names=("downsample", "fc")):
        super().__init__()
        shortcut, self.last = names
        self.conv1, self.bn1 = conv(channels, stem), nn.BatchNorm2d(stem)
        self.count, inputs = len(widths), stem
        for number, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            blocks = []
            for place in range(count):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append(ResidualBlock(inputs, width, stride, shortcut, width // 4 if bottleneck else None))
                inputs = width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        setattr(self, self.last, nn.Linear(inputs, classes))

    def forward(self, x):
        maps, x = [], relu(self.bn1(self.conv1(x)))
        for number in range(1, self.count + 1):
            x = getattr(self, f"layer{number}")(x)
            maps.append(x)
        return getattr(self, self.last)(pooled(x)), maps


class FunctionBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, bottleneck):
        super().__init__()
        inner = outputs // 4
        steps = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
        if bottleneck:
            steps = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        layers = [layer for step in steps for layer in (conv(*step), nn.BatchNorm2d(step[1]), nn.ReLU())]
        self.residual_function = nn.Sequential(*layers[:-1])
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*([conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)] if changes else []))

    def forward(self, x):
        return relu(self.residual_function(x) + self.shortcut(x))


class FunctionResidual(nn.Module):
    """ResNets of weiaicunzai/pytorch-cifar100."""

    def __init__(self, counts, classes, channels=3, bottleneck=False):
        super().__init__()
        self.conv1 = nn.Sequential(conv(channels, 64), nn.BatchNorm2d(64), nn.ReLU())
        inputs = 64
        for number, count in enumerate(counts):
            outputs = 64 * 2**number * (4 if bottleneck else 1)
            blocks = []
            for place in range(count):
                blocks.append(FunctionBlock(inputs, outputs, 2 if number and not place else 1, bottleneck))
                inputs = outputs
            setattr(self, f"conv{number + 2}_x", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        maps, x = [], self.conv1(x)
        for number in range(2, 6):
            x = getattr(self, f"conv{number}_x")(x)
            maps.append(x)
        return self.fc(pooled(x)), maps


class Vgg(nn.Module):
    """VGG of RepDistiller and mdistiller; the last ReLU of a block is no layer of it."""

    def __init__(self, counts, classes, channels=3, norm=True):
        super().__init__()
        inputs = channels
        for number, (count, width) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True)):
            layers = []
            for _ in range(count):
                layers.append(conv(inputs, width, bias=True))
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers.append(nn.ReLU())
                inputs = width
            setattr(self, f"block{number}", nn.Sequential(*layers[:-1]))
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        large, maps = x.shape[2] == 64, []
        for number in range(5):
            if number and (number < 4 or large):
                x = max_pool2d(x, 2, 2)
            x = relu(getattr(self, f"block{number}")(x))
            maps.append(x)
        return self.classifier(pooled(x)), maps[1:]


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv(inputs, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            conv(inner, inner, 3, stride, groups=inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            conv(inner, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class Mobile(nn.Module):
    """MobileNetV2 of RepDistiller and mdistiller."""

    def __init__(self, width, classes, channels=3):
        super().__init__()
        inputs = int(32 * width)
        self.conv1 = nn.Sequential(conv(channels, inputs, 3, 2), nn.BatchNorm2d(inputs), nn.ReLU())
        self.blocks = nn.ModuleList()
        settings = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
        for expansion, channels_there, count, stride in [*settings, (6, 320, 1, 1)]:
            outputs, row = int(channels_there * width), []
            for place in range(count):
                row.append(Inverted(inputs, outputs, 1 if place else stride, expansion))
                inputs = outputs
            self.blocks.append(nn.Sequential(*row))
        last = int(1280 * width) if width > 1 else 1280
        self.conv2 = nn.Sequential(conv(inputs, last, 1), nn.BatchNorm2d(last), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(last, classes))

    def forward(self, x):
        maps, x = [], self.conv1(x)
        for number, block in enumerate(self.blocks):
            x = block(x)
            maps += [x] if number in (1, 2, 4, 6) else []
        return self.classifier(pooled(self.conv2(x))), maps


def shuffle(x, groups):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, groups, channels // groups, height, width)
    return x.permute(0, 2, 1, 3, 4).reshape(batch, channels, height, width)


class Grouped(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner, self.stride, self.groups = outputs // 4, stride, 1 if inputs == 24 else 3
        self.conv1, self.bn1 = conv(inputs, inner, 1, groups=self.groups), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = conv(inner, inner, 3, stride, groups=inner), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = conv(inner, outputs, 1, groups=3), nn.BatchNorm2d(outputs)

    def forward(self, x):
        out = shuffle(relu(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(relu(self.bn2(self.conv2(out)))))
        return relu(torch.cat([out, avg_pool2d(x, 3, 2, 1)], 1) if self.stride == 2 else out + x)


class Shuffle(nn.Module):
    """ShuffleNet of RepDistiller and mdistiller."""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.conv1, self.bn1, inputs = conv(channels, 24, 1), nn.BatchNorm2d(24), 24
        for number, (width, count) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
            blocks = [Grouped(inputs, width - inputs, 2), *(Grouped(width, width, 1) for _ in range(count - 1))]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        maps, x = [], relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            maps.append(x)
        return self.linear(pooled(x)), maps


class Half(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x):
        kept, used = x.chunk(2, dim=1)
        used = self.bn2(self.conv2(relu(self.bn1(self.conv1(used)))))
        return shuffle(torch.cat([kept, relu(self.bn3(self.conv3(used)))], 1), 2)


class Down(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        half = outputs // 2
        self.conv1, self.bn1 = conv(inputs, inputs, 3, 2, groups=inputs), nn.BatchNorm2d(inputs)
        self.conv2, self.bn2 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, 3, 2, groups=half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x):
        left = relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(relu(self.bn3(self.conv3(x)))))
        return shuffle(torch.cat([left, relu(self.bn5(self.conv5(right)))], 1), 2)


class Shuffle2(nn.Module):
    """ShuffleNetV2 of RepDistiller and mdistiller, width 1."""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.conv1, self.bn1, inputs = conv(channels, 24, 1), nn.BatchNorm2d(24), 24
        for number, (width, count) in enumerate(((116, 3), (232, 7), (464, 3)), start=1):
            setattr(self, f"layer{number}", nn.Sequential(Down(inputs, width), *(Half(width) for _ in range(count))))
            inputs = width
        self.conv2, self.bn2, self.linear = conv(inputs, 1024, 1), nn.BatchNorm2d(1024), nn.Linear(1024, classes)

    def forward(self, x):
        maps, x = [], relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            maps.append(x)
        return self.linear(pooled(relu(self.bn2(self.conv2(x))))), maps


def three_stages(depth, classes, channels=3, wide=False, names=("downsample", "fc")):
    stem, widths = (32, (64, 128, 256)) if wide else (16, (16, 32, 64))
    return Residual(stem, widths, ((depth - 2) // 6,) * 3, classes, channels, names=names)


def four_stages(counts, classes, channels=3, bottleneck=False, names=("shortcut", "linear")):
    widths = [width * (4 if bottleneck else 1) for width in (64, 128, 256, 512)]
    return Residual(64, widths, counts, classes, channels, bottleneck, names)


def randomised(network, seed=0):
    """Random weights and statistics everywhere, so that no two layers can change places unseen."""
    generator = torch.Generator().manual_seed(seed)

    def random(tensor):
        return torch.rand(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(0.5 + random(tensor))
            elif name.endswith(("running_mean", "bias")):
                tensor.copy_(0.4 * random(tensor) - 0.2)
            elif tensor.dim() == 1:
                tensor.copy_(0.6 + 0.6 * random(tensor))
            elif tensor.dim() > 1:
                tensor.copy_((2 * random(tensor) - 1) * (3 / tensor[0].numel()) ** 0.5)
    return network.eval()
