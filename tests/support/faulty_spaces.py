"""Spaces with which something is wrong, and what is to be said of it."""

from support.faulty_augments import FAULTY_AUGMENTS

# What is wrong with each document is noted in it, behind the faulty line: #! KEY, and a piece of the message.
FAULTY = {
    "nothing at all": "{}  #! name is missing #! dataset is missing #! search must name the searched parameters",
    "sections": """\
name: two words               #! name must be letters, digits, '.', '_' and '-'
datset: {name: digits}        #! datset is not a known key (did you mean dataset?)
dataset: digits               #! dataset must be a mapping, with the keys name, root
seed: -1                      #! seed must be in [0, 9007199254740991], but got -1
augment: {crop: few}          #! augment.crop must be a whole number, but got 'few'
train:
  lr: 0                       #! train.lr must be greater than 0
  milestones: [0.5,
               1]             #! train.milestones.1 must be in (0, 1)
teachers:
  mode: dead                  #! teachers.mode must be
  recipe: {momentum: 1}       #! teachers.recipe.momentum must be in [0, 1)
budget:
  trials: 0                   #! budget.trials must be at least 1
  epochs: 3.5                 #! budget.epochs must be a whole number, but got 3.5
  time_bugdet: 2h             #! budget.time_bugdet is not a known key (did you mean time_budget?)
resources: 1                  #! resources must be a mapping, with the keys gpus_per_trial
tracking: {uri: 5}            #! tracking.uri must be text, but 5 without quotes is a number in YAML; put it in quotes
search: [lr, alpha]           #! search must name the searched parameters; there are: pair, method, step_loss
""",
    "an unknown data set": """\
name: x
dataset:
  name: cifr10                #! dataset.name unknown data set 'cifr10'; there are: cifar10,
search: {alpha: {float: [1, 2]}}
""",
    "your own data set that cannot be had": """\
name: x
dataset:
  name: nowhere.at_all:make   #! dataset.name there is no module 'nowhere' in the working directory
  image_size: 32              #! dataset.image_size has no meaning for the data set 'nowhere.at_all:make' (its own
search: {alpha: {float: [1, 2]}}
""",
    "options of the wrong kind": """\
name: x
dataset:
  name: cifar100
  extra: 2                    #! dataset.extra must be true or false, but got 2
  skip_broken: 1              #! dataset.skip_broken must be true or false, but got 1
  options: [3]                #! dataset.options must be a mapping, but got [3]
search: {alpha: {float: [1, 2]}}
""",
    "options that JSON has not": """\
name: x
dataset:
  name: "users_own:make"
  options:
    since: 2024-01-01         #! dataset.options.since must be text, a finite number, true, false, null, a list or a
search: {alpha: {float: [1, 2]}}
""",
    "options of other data sets": """\
name: x
dataset:
  name: svhn
  extra: no
  skip_broken: true           #! dataset.skip_broken has no meaning for the data set 'svhn' (its own options: root,
  options: {size: 3}          #! dataset.options has no meaning for the data set 'svhn' (its own options: root, verify,
search: {alpha: {float: [1, 2]}}
""",
    "how images are loaded": """\
name: x
dataset:
  name: imagenet
  loading: lazily             #! dataset.loading must be 'auto', 'resident', 'streamed' or 'stored', but got 'lazily'
  stored_side: 0              #! dataset.stored_side must be at least 1, but got 0
  stored_as: webp             #! dataset.stored_as must be 'pixels' or 'jpeg', but got 'webp'
  workers: -1                 #! dataset.workers must be at least 0, but got -1
  resize: 0                   #! dataset.resize must be at least 1, but got 0
search: {alpha: {float: [1, 2]}}
""",
    "images that are not stored": """\
name: x
dataset:
  name: imagenet
  stored_side: 256            #! dataset.stored_side has no effect unless loading is stored; leave it out
  stored_as: jpeg             #! dataset.stored_as has no effect unless loading is stored; leave it out
search: {alpha: {float: [1, 2]}}
""",
    "images that are stored too small": """\
name: x
dataset:
  name: imagenet
  loading: stored
  stored_side: 200            #! dataset.stored_side must be at least the image size 224, but got 200
  stored_as: jpeg
search: {alpha: {float: [1, 2]}}
""",
    "images that are stored as they are seen": """\
name: x
dataset:
  name: tiny-imagenet
  loading: stored
  stored_side: 70             #! dataset.stored_side has no effect without augment.resized_crop; leave it out
  stored_as: jpeg             #! dataset.stored_as has no effect without augment.resized_crop; leave it out
augment: {crop: 4}
search: {alpha: {float: [1, 2]}}
""",
    "keys that fit each other badly": """\
name: x
dataset:
  name: digits
  root: .                     #! dataset.root has no meaning for the data set 'digits'
budget:
  epochs: 3
  grace_period: 4             #! budget.grace_period must be at most the epochs 3, but got 4
  time_budget: soon           #! budget.time_budget must be a duration such as 90s, 45m or 1h30m, but got 'soon'
resources:
  gpus_per_trial: 1.5         #! resources.gpus_per_trial must be a whole number above 1, but got 1.5
train:
  lr: 0.1                     #! train.lr is under search too; leave one of the two out
  momentum: 0.5               #! train.momentum is under search too; leave one of the two out
search: {lr: {float: [0.1, 1]}, momentum: 0.8}
""",
    "entries": """\
search:
  alpah: 1                    #! search.alpah is not a known key (did you mean alpha?)
  alpha:
    float: [1,
            -1]               #! search.alpha.float.1 must be at least 0, but got -1
    log: 1                    #! search.alpha.log must be true or false, but got 1
  beta: {float: [3, 1]}       #! search.beta.float low < high must hold, but got low=3, high=1
  step_loss: {choice: [kl, l2]}  #! search.step_loss.choice.1 must be one of kl, mse, but got 'l2'
  attention_layers: [3, 3]    #! search.attention_layers must be a list of different layer numbers
""",
    "nothing to search": "search: {alpha: 1, beta: 2}  #! search has constants only, so there is nothing",
    "conditions": """\
search:
  step_loss: {choice: [kl, mse]}
  beta: {float: [1, 2]}
  alpha: {float: [1, 2], when: {step_los: kl}}  #! search.alpha.when.step_los is not a parameter; there are: pair
  lr: {float: [0.1, 1], when: {step_loss: l1}}  #! search.lr.when.step_loss is never 'l1'; it may be kl, mse
  momentum: {float: [0.1, 0.2], when: {beta: 1}}  #! search.momentum.when.beta is a range
  batch_size: {int: [1, 2], when: {attention_layers: "1,2"}}  #! search.batch_size.when.attention_layers is never '1,2'
""",
    "a condition on a range that has a condition": """\
search:
  step_loss: {choice: [kl, mse]}
  beta: {float: [1, 2], when: {step_loss: kl}}
  lr: {float: [0.1, 1], when: {beta: 1000}}  #! search.lr.when.beta is a range
""",
    "a condition on a number close to an option": """\
search:
  beta: {choice: [1000.1, 1000.4]}
  lr: {float: [0.1, 1], when: {beta: 1000.3}}  #! search.lr.when.beta is never
""",
    "faulty parameters, whose faults are not told twice": """\
teachers: {expert: {checkpoint: {wrn-16-2: space.yaml}}}
search:
  pair: {choice: [wrn-16-2/resnet8, resnet8]}  #! search.pair.choice.1 must be TEACHER/STUDENT
  step_loss: {choice: [kl, mse, l1]}  #! search.step_loss.choice.2 must be one of kl, mse, but got 'l1'
  lr: {float: [0.1, 1], when: {step_loss: mse}}
""",
    "an unknown method": """\
search:
  method:
    choice: [at,
             kdd]             #! search.method.choice.1 must be one of none,
  beta: {float: [1, 2]}
""",
    "what no method that is chosen varies": """\
search:
  method: {choice: [at, kd]}
  alpha: {float: [1, 2]}      #! search.alpha belongs to ctkd, which is not among the methods (at, kd); leave it out
  temperature: 4              #! search.temperature belongs to ctkd, which is not among the methods (at, kd); write kd:
  weight: 0.5                 #! search.weight belongs to kd; write kd: {weight: ...}
  scratch-only:               #! search.scratch-only is not among the methods (at, kd); add it to method, or
    alpha: {float: [1, 2]}
  ctkd: {alpha: 1}            #! search.ctkd is not a key: the parameters of ctkd are under search itself
  kd:
    weigth: 0.3               #! search.kd.weigth is not a known key (did you mean weight?); allowed: temperature
    temperature: {float: [-1, 9]}  #! search.kd.temperature.float.0 must be greater than 0, but got -1
  at: [beta]                  #! search.at must be a mapping of the parameters of at (beta, attention_layers), but got
""",
    "a condition on a parameter of a method that there is not": """\
search:
  method: {choice: [none, kd]}
  kd: {weight: {choice: [0, 0.5]}}
  lr: {float: [0.1, 1], when: {kd.wait: 0}}  #! search.lr.when.kd.wait is not a parameter; there are: pair, method,
""",
    "a confirmation of each method, of which there is one": """\
confirm: {per_method: true}   #! confirm.per_method has no effect, because one method alone is searched; leave it out
search: {method: kd, kd: {weight: {float: [0, 1]}}}
""",
    "more methods than trials": """\
budget:
  trials: 2                   #! budget.trials must be at least the 3 methods, of which each gets as many trials
search: {method: {choice: [none, at, kd]}}
""",
    "conditions that methods cannot have": """\
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-2/wrn-16-1]}
  method: {choice: [ctkd, kd], when: {pair: wrn-16-2/resnet8}}  #! search.method.when has no place here, because each
  alpha: {float: [1, 2], when: {method: ctkd}}  #! search.alpha.when.method is always ctkd here; leave it out
  kd:
    weight: {float: [0, 1], when: {method: at}}  #! search.kd.weight.when.method is always kd here; leave it out
""",
    "a method that trials never have": """\
search:
  method: {choice: [ctkd, kd]}
  lr: {float: [0.1, 1], when: {method: at}}  #! search.lr.when.method is never 'at'; it may be ctkd, kd
""",
    "what has no effect within a method": """\
search:
  method: {choice: [ctkd, at]}
  at: {beta: 0, attention_layers: {subsets: [1, 2]}}  #! search.at.attention_layers has no effect where at.beta is 0
""",
    "teachers whom none of the methods listens to": """\
teachers: {seed: 3}           #! teachers has no effect, because no trial uses a teacher; leave it out
search: {method: {choice: [none, kd]}, kd: {weight: 0}}
""",
    "a circle": """\
search:
  pair:
    choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]
    when: {step_loss: kl}     #! search.pair.when is circular with the conditions of step_loss
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
""",
    "a circle of one": """\
search:
  step_loss:
    choice: [kl, mse]
    when: {step_loss: kl}     #! search.step_loss.when is circular with the conditions of step_loss
""",
    "searched without effect": """\
search:
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
  beta: 0
  attention_layers: {subsets: [1, 2]}  #! search.attention_layers has no effect where beta is 0; leave it out
""",
    "without effect where step_loss may be its default": """\
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
""",
    "given without effect": """\
search:
  step_loss: mse
  temperature: 4              #! search.temperature has no effect where step_loss is mse; leave it out
  alpha: {float: [1, 2]}
""",
    "no step loss": """\
search:
  alpha: 0
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; leave it out
  temperature: {float: [1, 2], when: {step_loss: kl}}  #! search.temperature has no effect where alpha is 0; leave it
""",
    "perhaps no step loss": """\
search:
  alpha: {choice: [0, 0.5]}
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; add when: {alpha: [0.5]}
""",
    "pairs": """\
search:
  pair: {choice: [wrn-17-2/resnet8, vgg9/resnet8]}  #! search.pair the depth must be 6n + 4 #! search.pair vgg9
""",
    "a layer that there is not": """\
search:
  pair: wrn-16-2/resnet8      #! search.pair wrn-16-2/resnet8: wrn-16-2 has no layer 4; it has 1,2,3
  attention_layers: {subsets: [3, 4]}
""",
    "checkpoints": """\
teachers:
  expert:
    checkpoint:
      wrn-16-2: nowhere.pt    #! teachers.expert.checkpoint.wrn-16-2 there is no file nowhere.pt
      wrn-40-1: space.yaml    #! teachers.expert.checkpoint.wrn-40-1 is not a teacher of any pair
search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}
""",
    "live teachers are not stored": """\
teachers:
  mode: live
  storage: float32            #! teachers.storage has no effect where mode is live
  cache_limit: 1GB            #! teachers.cache_limit has no effect where mode is live
  trajectory_limit: 1GB       #! teachers.trajectory_limit has no effect where mode is live
search: {alpha: {float: [1, 2]}}
""",
    "teachers": """\
teachers:
  mode: now                   #! teachers.mode must be 'auto', 'recorded' or 'live', but got 'now'
  cache_limit: much           #! teachers.cache_limit must be a size such as 500MB or 20GB, but got 'much'
  trajectory_limit: -1        #! teachers.trajectory_limit must be a size such as 500MB or 20GB, but got -1
  storage: float8             #! teachers.storage must be 'float16' or 'float32', or {top: K} for the K largest
  recipe:
    precision: half           #! teachers.recipe.precision must be 'auto', 'float32' or 'bfloat16', but got 'half'
search: {alpha: {float: [1, 2]}}
""",
    "two experts": """\
teachers:
  expert:
    checkpoint: space.yaml
    seed: 3                   #! teachers.expert.seed has no effect with checkpoint
search: {pair: wrn-16-2/resnet8, alpha: {float: [1, 2]}}
""",
    "a condition on another method's parameter": """\
search:
  method: {choice: [ctkd, kd, dkd]}
  alpha:
    float: [1, 2]
    when: {kd.weight: 0.5}          #! search.alpha.when.kd.weight belongs to kd, and no trial of ctkd has it; leave
  kd: {weight: {choice: [0.5, 0.9]}}
  dkd:
    beta:
      float: [1, 2]
      when:
        kd.weight: 0.5              #! search.dkd.beta.when.kd.weight belongs to kd, and no trial of dkd has it; leave
""",
    "an ensemble of one": """\
teachers: {expert: {ensemble: 1}}  #! teachers.expert.ensemble must be a whole number, at least 2, or a list of
search: {alpha: {float: [1, 2]}}
""",
    "an ensemble beside a checkpoint": """\
teachers:
  expert:
    checkpoint: space.yaml
    ensemble: 3               #! teachers.expert.ensemble cannot be combined with checkpoint
search: {pair: wrn-16-2/resnet8, alpha: {float: [1, 2]}}
""",
    "members that there are not": """\
teachers:
  expert:
    ensemble:
      - wrn-16-2
      - wrn-17-2              #! teachers.expert.ensemble.1 the depth must be
      - nowhere.pt            #! teachers.expert.ensemble.2 there is no file
search: {pair: wrn-16-2/resnet8, alpha: {float: [1, 2]}}
""",
    "a member for one of two teachers": """\
teachers:
  expert:
    ensemble:
      - wrn-16-2
      - space.pt              #! teachers.expert.ensemble.1 is a file of weights for one teacher, and the pairs have 2
search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}
""",
    "members that look at other places": """\
teachers: {expert: {ensemble: [wrn-16-2, shufflenetv2]}}  #! teachers.expert.ensemble needs the attention
search: {pair: wrn-16-2/resnet8, alpha: {float: [1, 2]}}
""",
    "members with embeddings of other widths": """\
teachers: {expert: {ensemble: [wrn-16-1, wrn-16-2]}}  #! teachers.expert.ensemble it needs the embedding, and the
search: {pair: wrn-16-1/resnet8, method: pkt, lr: {float: [0.1, 0.2]}}
""",
    "an ensemble where one network is needed": """\
teachers: {expert: {ensemble: 3}}  #! teachers.expert.ensemble it computes with the network of one expert
search: {pair: wrn-16-2/resnet8, method: {choice: [ctkd, fitnets]}, alpha: {float: [1, 2]}}
""",
    "an ensemble that nobody looks at": """\
teachers: {expert: {ensemble: 3}}  #! teachers.expert has no effect, because no trial uses the expert; leave it
search: {beta: 0, alpha: {float: [1, 2]}}
""",
    "an expert that nobody looks at": """\
teachers: {expert: {seed: 3}}  #! teachers.expert has no effect, because no trial uses the expert; leave it
search: {beta: 0, alpha: {float: [1, 2]}}
""",
    "teachers that nobody listens to": """\
teachers: {seed: 3}           #! teachers has no effect, because no trial uses a teacher; leave it out
search: {alpha: 0, beta: 0, lr: {float: [0.1, 0.2]}}
""",
    "packing": """\
resources:
  gpus_per_trial: 0.5
  trials_per_gpu: auto        #! resources.trials_per_gpu cannot be combined with gpus_per_trial
  concurrent_trials: 3        #! resources.concurrent_trials is chosen where trials_per_gpu is auto
search: {alpha: {float: [1, 2]}}
""",
    "one checkpoint for two teachers": """\
teachers: {expert: {checkpoint: space.yaml}}  #! teachers.expert.checkpoint {wrn-16-1: FILE, wrn-16-2: FILE}
search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}
""",
    **FAULTY_AUGMENTS,
}

FIVE_CLASSES = """\
name: x
dataset: {name: folder, root: ., image_size: 32, channels: 3}
objectives: [validation_loss,
             validation_top5]  #! objectives.1 is meaningless with 5 classes: it needs 6 or more
metrics: [ece,
          top5]               #! metrics.1 top5 is meaningless with 5 classes: it needs 6 or more
search: {alpha: {float: [1, 2]}}
"""


def noted(text):
    """The faults noted in a document, as (line, key, piece of the message)."""
    for number, line in enumerate(text.splitlines(), start=1):
        for note in line.split("#!")[1:]:
            yield number, *note.strip().split(" ", 1)
