"""The texts of ``--help``: descriptions, examples and exit codes of the commands."""

EXIT_CODES = "Exit codes: 0 done, 1 the work failed, 2 something must be changed first, 130 interrupted"

PROGRAM = f"""\
A first search, on scikit-learn's digits (about two minutes, no download):

  ctkd-search check spaces/digits.yaml      the ranges to search, and an estimate of the cost
  ctkd-search run spaces/digits.yaml
  ctkd-search show digits                   the leaderboard
  ctkd-search report digits                 one HTML page with the results
  ctkd-search export digits -o best.yaml    the best config
  ctkd-search train best.yaml               final training, and its test accuracy
  ctkd-search export digits --format onnx   the student
  ctkd-search predict digits.onnx IMAGE     classify an image
  ctkd-search ui                            every run, in MLflow

ctkd-search COMMAND --help explains a command with examples; ctkd-search schema --markdown lists every key of a space.

{EXIT_CODES} (go on with --resume).
"""

_REFERENCE = "Every key of a space, with its default and allowed values: ctkd-search schema --markdown"

# The description of each command with examples, and its epilog.
COMMANDS = {
    "check": (
        """\
Shows what a space would search: the ranges, a few trials that might be drawn, and an estimate of the search's cost.
Trains nothing. Every fault of the file is listed at once, with its line and the allowed values.

  ctkd-search check spaces/digits.yaml
  ctkd-search check mine.yaml --set budget.epochs=100 --set 'search.lr={float: [0.01, 0.3], log: true}'
""",
        f"{_REFERENCE}\n\nExit codes: 0 the space is valid, 2 something in it must be changed",
    ),
    "check-method": (
        """\
Checks a method of your own against the contract that every method of this package keeps: its terms are finite numbers,
its gradient reaches the student and no teacher, it uses what it needs, each of its parameters has an effect, and an
interrupted trial goes on as if it had not been. Uses untrained networks and images of noise, and takes a few seconds.

  ctkd-search check-method my_code:MyMethod
  ctkd-search check-method my_code:MyMethod --pair resnet20/wrn-16-1
""",
        "Exit codes: 0 the method keeps the contract, 2 something in it must be changed",
    ),
    "run": (
        """\
Searches a space: trains the experts, runs the trials (Ray Tune, ASHA, Optuna), logs every epoch to MLflow and
registers the best student. Ctrl-C stops it and keeps all results so far; --resume goes on, after a crash too.
A finished search is extended with a larger number of trials.

  ctkd-search run spaces/digits.yaml
  ctkd-search run spaces/cifar10.yaml --name long --epochs 200 --time-budget 8h
  ctkd-search run spaces/cifar10.yaml --set train.batch_size=64 --set search.pair=wrn-40-2/wrn-16-2
  ctkd-search run spaces/cifar10.yaml --resume
  ctkd-search run spaces/cifar10.yaml --trials 100
  ctkd-search run spaces/mine.yaml --name wider --warm-start mine
  ctkd-search run spaces/mine.yaml --warm-start published --warm-start best-configs.yaml
""",
        f"{_REFERENCE}\n\n{EXIT_CODES} (go on with --resume)",
    ),
    "show": (
        """\
Lists the searches, or ranks the trials of one: its best config, its lead over the baselines, whether that lead is
statistically significant, and the next commands.

  ctkd-search show
  ctkd-search show digits --limit 5
""",
        "Exit codes: 0 done, 2 there is no such search",
    ),
    "export": (
        """\
Writes the result of a search: the config of a trial, every value resolved, for the final training; its best configs,
for other searches to begin from; or its student, for use. A student takes any number of raw images (uint8; batch,
height, width, channels) and returns probabilities; the file contains the names of its classes. Its outputs are compared
with PyTorch's before the file is kept. With --int8 it is quantised, and with --half converted to half precision; it is
then measured beside itself in float32, and written with a model card unless it loses too much accuracy. --tune-epochs
trains an int8 student once more through the roundings of its file.

  ctkd-search export digits -o best.yaml
  ctkd-search export digits --trial 7 -o seventh.yaml
  ctkd-search export digits --format onnx
  ctkd-search export digits --format onnx --int8
  ctkd-search export digits --format onnx --int8 --tune-epochs 2
  ctkd-search export digits --format onnx --half
  ctkd-search export digits --format torch --final
  ctkd-search export digits --format configs -o best-configs.yaml
""",
        "Exit codes: 0 done, 1 the file would not return the student's probabilities, 2 there is no such search,\n"
        "trial or student, the file cannot be written, or it loses too much accuracy in its precision",
    ),
    "predict": (
        """\
Classifies image files, of any format that Pillow reads, with a student. Images are prepared as by the data set
`folder`: the centred square, resized, in grey where the student is for grey images. They should look like the images
that the student was trained on: the digits, for example, are white on black. A .pt2 file or a model in MLflow is a
program; use one only from a source that you would run a program from.

In directories, files that are not images are ignored, as by the data set `folder`. An image that cannot be read is
listed with the reason (with --json its class is null, and the reason is its error); the others are classified.

  ctkd-search predict digits.onnx seven.png
  ctkd-search predict models:/ctkd-digits@champion scans/ --top 3
  ctkd-search predict trials/digits/final-1/student.pt scans/ --json
""",
        "Exit codes: 0 done, 1 some images cannot be read, 2 there is no such student, or no image can be read",
    ),
    "report": (
        """\
Writes the report of a search: one HTML page, which can be mailed or printed as it is, and its pictures as PNG files.
It contains the winner and the baselines, the course of the search, the importance of parameters, learning curves and
attention maps of teachers and student, and the cost. Trains nothing; may be called while a search runs.

  ctkd-search report digits
  ctkd-search report digits -o for-the-meeting
""",
        "Exit codes: 0 done, 2 there is no such search, no trial of it has finished an epoch, or the report cannot be\n"
        "written",
    ),
    "train": (
        """\
Trains a config to the end, on training and validation images, with teachers that learn from both. The only command
that reads the test images: once for each student, when all are trained.

With several seeds it reports an interval for the test accuracy, and the config's lead over baselines that are trained
with the same recipe (learning rate, batch size and so on), epochs and seeds: student-alone, without a teacher; kd, with
the expert's predictions; at and scratch-only, with one half of CTKD and the config's weight of it; ctkd-paper, with
CTKD's loss and its default weights. A file among the baselines is a config with a recipe of its own, as in the best of
another method. The first seed's student is kept and registered, whether or not it is the best.

Ctrl-C stops it and keeps all results so far; --resume goes on, after a crash too.

  ctkd-search train best.yaml
  ctkd-search train best.yaml --epochs 200 --seed 1
  ctkd-search train best.yaml --seeds 5
  ctkd-search train best.yaml --seeds 5 --new-streams --baselines student-alone,kd
  ctkd-search train best.yaml --seeds 5 --baselines student-alone,tuned-kd.yaml
""",
        f"{EXIT_CODES} (go on with --resume)",
    ),
    "cache": (
        """\
Lists or clears the teacher cache in the directory of the searches: trajectories and weights of recorded teachers, and
attention maps of experts. What is removed is recorded again when a search needs it.

  ctkd-search cache
  ctkd-search cache remove maps-0123456789abcdef01234567
  ctkd-search cache remove --unused-for 30d
""",
        "Exit codes: 0 done, 2 something must be changed first",
    ),
    "slurm": (
        """\
Writes the script with which Slurm runs a search, on one machine or with Ray on several. Shortly before the job's time
limit the search is interrupted and the job requeued; the search then goes on where it was, as it does when the job is
submitted again. Options of run are those of the search in the script.

  ctkd-search slurm spaces/cifar10.yaml --nodes 2 --gpus-per-node 4 --time 8h -o cifar10.sh
  ctkd-search slurm spaces/cifar10.yaml --time 1d --sbatch=--partition=gpu --setup 'module load cuda' -o cifar10.sh
  sbatch cifar10.sh
""",
        "Exit codes: 0 done, 2 something must be changed first",
    ),
    "ui": (
        """\
Opens MLflow's UI on the searches, on http://127.0.0.1:5000: every trial with its curves, and the registered students.
Ctrl-C ends it.

  ctkd-search ui
  ctkd-search ui --port 5001 --trials-dir /data/trials
""",
        "Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 there is no search yet, or the port is taken",
    ),
    "schema": (
        """\
Prints every key that a space may have, from the code that reads spaces: as JSON Schema (draft 2020-12), with which an
editor completes a space and underlines its faults, or as Markdown tables.

  ctkd-search schema -o space.schema.json
  ctkd-search schema --markdown

A space names its schema in its first line: # yaml-language-server: $schema=space.schema.json
""",
        "Exit codes: 0 done, 2 the file cannot be written",
    ),
}
