"""Faults of spaces that a JSON Schema cannot find."""

# What a schema cannot say, by patterns of what the reader says then.
INEXPRESSIBLE = {
    "how two numbers relate": [
        "methods, of which each gets as many trials",
        "low < high must hold",
        "larger than the range",
        "at most the epochs",
        "needs at least 2 r",
        "grace_period below the epochs",
    ],
    "of how many rungs a budget is": ["rungs of this budget"],
    "a number that is whole, but written with a point": [r"whole number, but got \d+\.0$", r"layer numbers .*\.0\b"],
    "no number at all": ["but got nan"],
    "which code there is": ["there is no module"],
    "which files there are": [
        "there is no file",
        "is not a directory",
        "its own test images",
        "none of the training images can be read",
    ],
    "how many images there are": ["must be at least one image of a class", "must leave at least one image of each"],
    "what a data set asks of its images": ["must be less than the image size", r"must be at least 8"],
    "which networks numbers make": ["the depth must be", "has no layer", "no architecture"],
    "what the pairs of the space need": [
        "is not a teacher of any pair",
        "is one file for",
        r"teachers.expert.checkpoint \{",
    ],
    "what follows from all the students": ["is the same in every trial"],
    "what follows from all that is searched": [
        "cmaes needs",
        "cmaes follows",
        "has constants only",
        "is circular with",
    ],
    "which values another parameter may take": ["is a range", "is never"],
    "how parts of pictures are cut out": [
        "cuts parts out of the original",
        "replaces crop",
        "whose images are not files",
        "the smallest and the largest share",
    ],
    "what an operation does to the images": [
        "because the images are grey",
        "because brightness, contrast",
        "is less than one pixel",
        "has no effect without mixup or cutmix",
        "leaves no more than a row",
        "no such rectangle fits",
    ],
    "what alternatives have in common": ["is the same augmentation as", "every alternative under search.augment"],
    "which losses have labels": ["because no trial's loss has the labels"],
    "of how many methods there are": ["because one method alone is searched"],
    "that nothing listens to a teacher": ["teachers has no effect", "teachers.expert has no effect"],
    "that Nesterov's momentum is none": ["where nesterov is true"],
}
