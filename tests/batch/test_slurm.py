"""The scripts for Slurm: what they ask for, and what they do when their time is over."""

import signal
import subprocess
import sys

import pytest
import yaml
from support.factories import DIGITS
from support.live import Live, few_images
from support.slurm import FakeSlurm, TwoMachines, why_not_two_machines

from ctkd_search.batch import slurm
from ctkd_search.cli import commands
from ctkd_search.cli.parser import make_parser
from ctkd_search.records.store import SearchFolder

pytestmark = pytest.mark.usefixtures("own_directory")

# A search that runs until it is told to stop, or ends with the exit code in a file.
SEARCH = """#!/bin/bash
echo "$@" >> "$FAKE_SLURM/called"
if [ "$1" = show ]; then [ -e "$FAKE_SLURM/begun" ]; exit; fi
touch "$FAKE_SLURM/begun"
trap '[ -e "$FAKE_SLURM/deaf" ] || exit 130' TERM
touch "$FAKE_SLURM/ready"
while [ ! -e "$FAKE_SLURM/code" ]; do sleep 0.05; done
exit "$(cat "$FAKE_SLURM/code")"
"""


def write(call, *words):
    """Writes a script with the command; its text."""
    code, out, err = call("slurm", DIGITS, "--time", "8h", *words)
    assert code == 0, err
    return out


def directives(text):
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


@pytest.mark.parametrize(
    "words",
    [
        ["--cpus-per-node", "8"],
        ["--gpus-per-node", "1", "--memory-per-node", "64G", "--requeues", "0"],
        ["--nodes", "2", "--gpus-per-node", "4"],
        ["--nodes", "16", "--cpus-per-node", "64", "--setup", "module load cuda", "--setup", "export A='b c'"],
        ["--cpus-per-node", "2", "--set", "search.lr={float: [0.01, 0.3], log: true}", "--trials-dir", "it's a place"],
    ],
    ids=lambda words: words[0] + words[1],
)
def test_a_script_is_sound_shell(call, words, tmp_path):
    (tmp_path / "job.sh").write_text(write(call, *words))
    for checker in (["bash", "-n"], ["shellcheck"]):
        checked = subprocess.run([*checker, "job.sh"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_job_asks_for_what_the_options_name(call):
    few = directives(write(call, "--gpus-per-node", "1"))
    assert {"--nodes=1", "--gpus-per-node=1", "--time=0-08:00:00", "--signal=B:USR1@300", "--requeue"} <= set(few)
    assert not any(line.startswith(("--exclusive", "--cpus-per-task", "--mem")) for line in few)
    many = directives(
        write(
            call,
            *("--nodes", "3", "--gpus-per-node", "4", "--cpus-per-node", "32", "--memory-per-node", "128G"),
            *("--grace", "10m", "--sbatch=--partition=gpu", "--sbatch", "-A me", "--name", "mine"),
        )
    )
    asked = {"--nodes=3", "--gpus-per-node=4", "--cpus-per-task=32", "--mem=128G", "--signal=B:USR1@600"}
    assert asked | {"--exclusive", "--partition=gpu", "-A me", "--job-name=mine"} <= set(many)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(90, "0-00:01:30"), (8 * 3600, "0-08:00:00"), (86400 + 3661.2, "1-01:01:02")]
)
def test_a_time_limit_is_written_as_slurm_reads_it(seconds, shown):
    assert slurm.slurm_time(seconds) == shown


def test_every_option_of_run_goes_into_the_script():
    parsers = make_parser()._subparsers._group_actions[0].choices
    given = {
        action.dest: action.option_strings[-1]
        for action in parsers["run"]._actions
        if action.option_strings and action.dest not in ("help", "resume", "address")
    }
    assert given.keys() <= {action.dest for action in parsers["slurm"]._actions}
    words = [word for option in given.values() for word in ([option] if option == "--champion" else [option, "7"])]
    options = make_parser().parse_args(["slurm", "space.yaml", "--time", "8h", *words])
    run = make_parser().parse_args(commands._run_words(options)[1:])
    for name in given:
        assert getattr(run, name) == getattr(options, name), name
        assert getattr(run, name) != parsers["run"].get_default(name), name


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--time", "soon"], "--time must be a duration such as 90s, 45m or 1h30m, but got 'soon'"),
        (["--grace", "10s"], "--grace must be at least 60s, but got '10s'"),
        (["--grace", "9h"], "--grace 9h must be shorter than --time 8h"),
        (["--memory-per-node", "much"], "--memory-per-node must be a size of Slurm, as in 64G, but got 'much'"),
        (["--sbatch", "gpu"], "--sbatch must be an option of sbatch, as in --sbatch=--partition=gpu, but got 'gpu'"),
        (["--sbatch=--nodes=4"], "--sbatch --nodes=4 sets --nodes, which the script sets itself"),
        (["--sbatch=-t 10"], "--sbatch -t 10 sets --time, which the script sets itself"),
        (["--sbatch=--mem 4G"], "--sbatch --mem 4G sets --mem, which the script sets itself"),
        (["--setup", "a\nb"], "--setup must be one line of shell"),
        (["--setup", " "], "--setup must be one line of shell"),
        (["--name", "a b"], "--name must be letters"),
        (["--set", "resources.address=auto"], "resources.address is set, but the job starts Ray itself; leave it out"),
        (["--gpus-per-trial", "1"], "resources.gpus_per_trial is 1, but the GPUs found are none"),
        (["--gpus-per-node", "2", "--gpus-per-trial", "4"], "resources.gpus_per_trial is 4, but the GPUs found are 2"),
        (["--cpus-per-node", "4", "--cpus-per-trial", "8"], "resources.cpus_per_trial is 8, but there are 4 cores"),
    ],
)
def test_what_cannot_be_a_job_is_refused_in_one_line(call, words, complaint):
    code, out, err = call("slurm", DIGITS, "--time", "8h", "--cpus-per-node", "8", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"ctkd-search: {complaint}")
    assert err.count("\n") == 1


def test_the_trials_at_once_and_idle_gpus_are_told(call):
    told = [
        call("slurm", DIGITS, "--time", "8h", "--trials", "6", *words)[2]
        for words in (["--nodes", "2", "--gpus-per-node", "4"], ["--nodes", "2", "--cpus-per-node", "2"], [])
    ]
    assert told[0] == "6 trials at once, of 6 trials in all\nthe trials use 6 of 8 GPUs at once\n"
    assert told[1] == "4 trials at once, of 6 trials in all\n"
    assert "--cpus-per-node" in told[2]


def test_a_file_is_written_whole_and_its_command_named(call, tmp_path):
    code, out, _ = call("slurm", DIGITS, "--time", "8h", "--cpus-per-node", "2", "-o", "jobs/digits.sh")
    assert (code, out) == (0, "wrote jobs/digits.sh; submit it with: sbatch jobs/digits.sh\n")
    assert (tmp_path / "jobs" / "digits.sh").read_text().startswith("#!/bin/bash\n")


@pytest.fixture
def job(call, tmp_path, monkeypatch):
    """A job whose search is a stand-in, and which waits a second for a search that does not stop."""
    found = FakeSlurm(tmp_path, {"ctkd-search": SEARCH})
    monkeypatch.setattr(sys, "executable", str(found.bin / "python"))
    monkeypatch.setattr(slurm, "_RESERVE", 59)
    (tmp_path / "job.sh").write_text(write(call, "--cpus-per-node", "2", "--grace", "60s", "--requeues", "1"))
    yield found
    found.stop()


def begun(job):
    """Submits the job, and waits until its search runs."""
    (job.directory / "ready").unlink(missing_ok=True)
    job.submit("job.sh")
    job.wait_for((job.directory / "ready").exists)
    return job


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_job_ends_as_its_search_does(job, code):
    (job.directory / "code").write_text(str(code))
    job.submit("job.sh")
    assert job.wait(20) == code
    assert job.requeued == 0


def test_a_setup_line_may_read_a_variable_that_is_not_set(job, call, tmp_path):
    setup = ["--setup", 'export SEEN="got $CTKD_NEVER_SET"', "--setup", 'echo "$SEEN" > seen']
    (tmp_path / "job.sh").write_text(write(call, "--cpus-per-node", "2", *setup))
    (job.directory / "code").write_text("0")
    job.submit("job.sh")
    assert job.wait(20) == 0
    assert (tmp_path / "seen").read_text() == "got \n"


def test_a_job_at_its_limit_is_requeued_and_its_search_goes_on(job):
    begun(job).signal(signal.SIGUSR1)
    assert job.wait(20) == 130
    assert job.requeued == 1
    begun(job)
    assert (job.directory / "called").read_text().splitlines()[-1].endswith("--resume")
    # It was requeued as often as it may be.
    job.signal(signal.SIGUSR1)
    assert job.wait(20) == 130
    assert job.requeued == 1
    assert "the job has been requeued 1 times; submit it again to go on" in job.said()
    called = (job.directory / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == ["show", "run"] * 2
    assert "--resume" not in called[1]


def test_a_job_that_is_cancelled_stops_its_search_and_is_not_requeued(job):
    begun(job).signal(signal.SIGTERM)
    assert job.wait(20) == 130
    assert job.requeued == 0


def test_a_search_that_ends_at_the_limit_is_not_requeued(job):
    (job.directory / "deaf").touch()
    begun(job).signal(signal.SIGUSR1)
    (job.directory / "code").write_text("0")
    assert job.wait(20) == 0
    assert job.requeued == 0


def test_a_job_whose_search_does_not_stop_is_requeued_before_the_limit(job):
    (job.directory / "deaf").touch()
    begun(job).signal(signal.SIGUSR1)
    assert job.wait(20) == 130
    assert job.requeued == 1
    (job.directory / "code").write_text("0")


def script_of(live, tmp_path, *words):
    """Writes the script of a small search with the command itself; its path."""
    found = live.directory / "job.sh"
    options = ["--time", "1h", "--cpus-per-node", "1", "--trials-dir", str(tmp_path / "trials"), "-o", str(found)]
    space = live.directory / "space.yaml"
    space.write_text(yaml.safe_dump({**yaml.safe_load(space.read_text()), "resources": {"cpus_per_trial": 1}}))
    made = [sys.executable, "-m", "ctkd_search", "slurm", "space.yaml", *options, *words]
    subprocess.run(made, check=True, capture_output=True, cwd=tmp_path)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_search_is_interrupted_at_the_limit_and_finished_by_the_next_job(tmp_path):
    # Without two machines, what one does is tested still.
    machines = 1 if why_not_two_machines() else 2
    live = Live(tmp_path, dataset=few_images(tmp_path))
    script = script_of(live, tmp_path, "--nodes", str(machines), "--epochs", "40", "--set", "budget.grace_period=40")
    jobs = TwoMachines(tmp_path) if machines == 2 else FakeSlurm(tmp_path)
    try:
        jobs.submit(script)
        jobs.wait_for(lambda: any(len(record["epochs"]) >= 2 for record in live.records()))
        jobs.signal(signal.SIGUSR1)
        assert jobs.wait() == 130, jobs.said()
        assert jobs.requeued == 1
        assert not SearchFolder(tmp_path / "trials", "small").search().finished
        jobs.submit(script)
        assert jobs.wait() == 0, jobs.said()
    finally:
        jobs.stop()
    assert jobs.requeued == 1
    folder = SearchFolder(tmp_path / "trials", "small")
    assert folder.search().finished
    assert [(trial.status, len(trial.epochs)) for trial in folder.trials()] == [("finished", 40)] * 4
    if machines == 2:
        assert "2 CPU cores" in folder.search().hardware
        assert "on 2 machines" in folder.search().hardware
