"""Every augmentation beside crops and flips, alone and together."""

from ctkd_search.config import Augment, Erasing, Jitter, RandAugment

FULL_JITTER = Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
AUGMENTED = {
    "randaugment": Augment(2, randaugment=RandAugment(2, 9)),
    "trivialaugment": Augment(2, trivialaugment=True),
    "jitter": Augment(2, jitter=FULL_JITTER),
    "erasing": Augment(2, erasing=Erasing(0.7)),
    "mixup": Augment(2, mixup=0.4),
    "cutmix": Augment(2, cutmix=1.0),
    "either": Augment(2, mixup=0.4, cutmix=1.0, mix_probability=0.8),
    "balanced": Augment(2, sampling="balanced"),
    "everything": Augment(
        2,
        randaugment=RandAugment(3, 20),
        jitter=FULL_JITTER,
        erasing=Erasing(0.5, (0.1, 0.5)),
        mixup=0.2,
        cutmix=1.0,
        mix_probability=0.9,
        sampling="balanced",
    ),
}
