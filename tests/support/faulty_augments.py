"""Spaces with whose augmentation something is wrong, and what is to be said of it; see `faulty_spaces`."""

FAULTY_AUGMENTS = {
    "parts of pictures that are not there": """\
name: x
dataset:
  name: tiny-imagenet
  loading: resident
  workers: 2                  #! dataset.workers has no effect where loading is resident; leave it out
augment: {resized_crop: [0.1, 1]}  #! augment.resized_crop cuts parts out of whole pictures, which are streamed
search: {alpha: {float: [1, 2]}}
""",
    "parts of pictures that are no files, twice": """\
augment:
  crop: 2
  resized_crop: [0.1, 1]      #! augment.resized_crop replaces crop #! augment.resized_crop has no meaning
search: {alpha: {float: [1, 2]}}
""",
    "shares of a picture": """\
augment: {resized_crop: [1, 0.5]}  #! augment.resized_crop must be the smallest and the largest share, as in [0.08, 1.0]
search: {alpha: {float: [1, 2]}}
""",
    "operations that are too strong, or two of one kind": """\
augment:
  randaugment:
    operations: 0             #! augment.randaugment.operations must be at least 1, but got 0
    magnitude: 31             #! augment.randaugment.magnitude must be in [0, 30], but got 31
  jitter: {hue: 0.6}          #! augment.jitter.hue must be in [0, 0.5], but got 0.6
  erasing: {area: [0.1, 1]}   #! augment.erasing.probability is missing #! augment.erasing.area.1 must be in (0, 1)
search: {alpha: {float: [1, 2]}}
""",
    "operations without effect": """\
augment:
  randaugment: {}             #! augment.randaugment is replaced by trivialaugment; leave one of the two out
  trivialaugment: true
  jitter:
    brightness: 0.1
    saturation: 0.1           #! augment.jitter.saturation has no effect, because the images are grey; leave it out
    hue: 0.1                  #! augment.jitter.hue has no effect, because the images are grey; leave it out
  erasing:
    probability: 1
    area: [0.001, 0.015]      #! augment.erasing.area is less than one pixel of images of size 8; raise it, or leave
search: {alpha: {float: [1, 2]}}
""",
    "mixing of nothing": """\
augment:
  mixup: 0                    #! augment.mixup must be greater than 0, but got 0
  cutmix: -1                  #! augment.cutmix must be greater than 0, but got -1
  mix_probability: 2          #! augment.mix_probability must be in (0, 1], but got 2
search: {alpha: {float: [1, 2]}}
""",
    "a probability of mixing without any": """\
augment: {mix_probability: 0.5}  #! augment.mix_probability has no effect without mixup or cutmix; leave it out
search: {alpha: {float: [1, 2]}}
""",
    "a jitter of nothing": """\
augment:
  jitter: {}                  #! augment.jitter has no effect, because brightness, contrast, saturation, hue are all 0
search: {alpha: {float: [1, 2]}}
""",
    "erasing of more than all": """\
augment: {erasing: 1.5}       #! augment.erasing.probability must be in (0, 1], but got 1.5
search: {alpha: {float: [1, 2]}}
""",
    "mixing and erasing of everything": """\
augment:
  cutmix: 1
  erasing:
    probability: 1
    area: [0.7, 0.9]          #! augment.erasing.area leaves no more than a row and a column of any image of size 8
search: {alpha: {float: [1, 2]}}
""",
    "rectangles that never fit": """\
augment:
  erasing:
    probability: 0.5
    area: [0.9, 0.99]         #! augment.erasing.area has no effect, because no such rectangle fits into images of size
search: {alpha: {float: [1, 2]}}
""",
    "an augmentation that is searched by its settings": """\
augment:
  mixup: {float: [0.1, 1]}    #! augment.mixup is searched as a part of named alternatives alone, because teachers are
  randaugment: {magnitude: {choice: [1, 5]}}  #! augment.randaugment.magnitude is searched as a part of named
search:
  alpha: {float: [1, 2]}
  cutmix: {choice: [0.5, 1]}  #! search.cutmix belongs to augment; it is searched as a part of named alternatives alone
""",
    "an augmentation that is a choice in its section": """\
augment: {choice: {a: {}, b: {mixup: 0.2}}}  #! augment.choice is searched as a part of named alternatives alone
search: {alpha: {float: [1, 2]}}
""",
    "faulty alternatives": """\
augment: {crop: 2}
search:
  alpha: {float: [1, 2], when: {augment: weak}}
  augment:
    wen: 3
    choice:                   #! search.augment.choice must have text as names, but got True; put it in quotes
      weak: {}
      two!words: {crop: 1}    #! search.augment.choice.two!words must be named with letters, digits,
      on: {crop: 3}
      strong:
        mixup: x              #! search.augment.choice.strong.mixup must be a number, but got 'x'
        crop: 8               #! search.augment.choice.strong.crop must be less than the image size 8, but got 8
        cutmixx: 1            #! search.augment.choice.strong.cutmixx is not a known key (did you mean cutmix?)
      searched: {mixup: {float: [0, 1]}}  #! search.augment.choice.searched.mixup is searched as a part of named
""",
    "alternatives that are none": """\
augment: {mix_probability: 0.5}
search:
  augment:
    choice:
      a: {mixup: 0.1}
      b: {mixup: 0.1}         #! search.augment.choice.b is the same augmentation as a; leave one out
""",
    "a setting that every alternative replaces": """\
augment:
  crop: 2
  flip: true
  mixup: 0.1                  #! augment.mixup has no effect, because every alternative under search.augment replaces it
search: {augment: {choice: {a: {mixup: 0.2}, b: {mixup: null}}}}
""",
    "one alternative": """\
augment: {crop: 2}
search: {augment: {choice: {a: {mixup: 0.2}}}}  #! search.augment.choice must have at least 2 alternatives; write the
""",
    "alternatives without settings": """\
search: {augment: {choice: [weak, strong]}}  #! search.augment.choice must be named alternatives, as in {choice: {weak:
""",
    "an augmentation that is a range": """\
search: {augment: {float: [0, 1]}}  #! search.augment must be named alternatives, as in {choice: {weak: {}, strong:
""",
    "alternatives and more": """\
search:
  augment:
    choice: {a: {}, b: {mixup: 0.2}}
    wen: {pair: 1}            #! search.augment.wen is not a known key (did you mean when?); allowed: choice, when
""",
    "a condition on an alternative that there is not": """\
search:
  augment: {choice: {a: {}, b: {mixup: 0.2}}}
  lr: {float: [0.1, 0.2], when: {augment: c}}  #! search.lr.when.augment is never 'c'; it may be a, b
""",
    "a crop as large as the image": """\
augment: {crop: 8}            #! augment.crop must be less than the image size 8, but got 8
search: {alpha: {float: [1, 2]}}
""",
}
