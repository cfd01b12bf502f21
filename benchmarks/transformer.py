"""A small ViT and a MobileNetV3 under AdamW with warm-up and cosine, beside SGD with milestones, on photographs.

    python benchmarks/transformer.py IMAGES [--epochs 30] [--seeds 5] [--seconds 3600]

Students alone; test accuracy at the end. Every training that has ended is kept in
`benchmarks/transformer.json`; begun again, the rest is trained. Prints the table of what there is.
"""

from __future__ import annotations

from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from trainings import Training, arguments, config, run, table, title

from ctkd_search.recipe import Recipe

FILE = Path(__file__).with_name("transformer.json")
STUDENTS = {
    "ViT, 6 blocks of 192, patches of 4": "transformer:make_vit",
    "MobileNetV3 small 0.5": "timm/mobilenetv3_small_050",
}
RECIPES = {
    "sgd 0.1, milestones": Recipe(),
    "adamw 0.001, warm-up, cosine": Recipe(
        optimizer="adamw", lr=1e-3, weight_decay=0.05, decay="weights", schedule="cosine", warmup=3
    ),
}


def make_vit(classes: int, channels: int, image_size: int) -> VisionTransformer:
    """A ViT for small images, as a factory of one's own."""
    return VisionTransformer(image_size, 4, channels, classes, embed_dim=192, depth=6, num_heads=3)


def trainings(epochs: int, seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another."""
    return [
        Training((student, name, epochs, seed), config(recipe, "none", epochs, seed, student=architecture))
        for seed in range(seeds)
        for student, architecture in STUDENTS.items()
        for name, recipe in RECIPES.items()
    ]


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    title("transformer and mobile students under two recipes", options)
    run(options, {FILE: trainings(options.epochs, options.seeds)})
    table(FILE, "test_accuracy", ("student", "recipe", "epochs"))


if __name__ == "__main__":
    main()
