"""Several experts: their outputs are the mean of the members', recorded as those of one expert are."""

import dataclasses

import numpy as np
import pytest
import torch
from support.classroom import GEOMETRY
from support.methods import with_values
from support.tiny import CPU, CTKD, TINY, assert_same_bits, changed, copied, prepared_trainer

from ctkd_search.config import ExpertConfig, MethodConfig
from ctkd_search.distill import losses
from ctkd_search.distill.build import Experts, load_expert, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.expert import Ensemble, Expert
from ctkd_search.distill.recording import expert_runs, make_stream, scratch_run
from ctkd_search.distill.requests import EMBEDDING, LOGITS, Needs, TeacherOutput
from ctkd_search.models import build

pytestmark = pytest.mark.usefixtures("single_thread")

OUTPUTS = (LOGITS, TeacherOutput("attention", 2), TeacherOutput("statistics", 3), EMBEDDING)
TAUGHT = dataclasses.replace(TINY, method=with_values(CTKD, expert_kd=0.5))


def of(ensemble, config=TAUGHT, **expert):
    return changed(config, "teachers.expert", ExpertConfig(ensemble=ensemble, **expert))


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "teachers")


def members(count):
    return [Expert(build("wrn-10-1", GEOMETRY, seed=seed), "float32") for seed in range(count)]


def test_outputs_are_the_mean_of_the_members_outputs():
    several = members(3)
    images = torch.randn(7, 1, 8, 8)
    batches = [(images[:4], torch.zeros(4)), (images[4:], torch.zeros(3))]
    found = [torch.cat(parts) for parts in zip(*Ensemble(several).outputs(batches, OUTPUTS), strict=True)]
    each = [[torch.cat(parts) for parts in zip(*one.outputs(batches, OUTPUTS), strict=True)] for one in several]
    for number, mean in enumerate(found):
        expected = np.mean([one[number].numpy() for one in each], axis=0)
        assert mean.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert Ensemble(several).layers == (1, 2, 3)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mean_logits_are_the_geometric_mean_of_the_softened_predictions(temperature):
    several = members(4)
    images = torch.randn(5, 1, 8, 8)
    [[mean]] = Ensemble(several).outputs([(images, torch.zeros(5))], [LOGITS])
    each = [next(one.outputs([(images, torch.zeros(5))], [LOGITS]))[0].double() for one in several]
    product = torch.stack([(logits / temperature).softmax(dim=1) for logits in each]).log().mean(dim=0).exp()
    expected = product / product.sum(dim=1, keepdim=True)
    torch.testing.assert_close((mean / temperature).softmax(dim=1).double(), expected, rtol=1e-5, atol=1e-7)


def test_the_mean_map_pulls_as_the_mean_of_the_distances_to_the_members():
    maps = [losses.attention_map(torch.randn(6, 4, 5, 5, dtype=torch.float64)) for _ in range(3)]
    student = torch.randn(6, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    own = losses.attention_map(student)
    [together] = torch.autograd.grad((own - torch.stack(maps).mean(dim=0)).square().mean(), student, retain_graph=True)
    [apart] = torch.autograd.grad(torch.stack([(own - each).square().mean() for each in maps]).mean(), student)
    torch.testing.assert_close(together, apart)


def test_the_first_member_is_the_expert_alone_and_the_others_are_independent(splits):
    runs = expert_runs(of(3), splits.fingerprint, CPU, 40)
    assert runs[0] == scratch_run(TAUGHT, splits.fingerprint, CPU, 40)
    assert len({run.entry for run in runs}) == len({run.seed for run in runs}) == 3
    assert len({run.stream_seed for run in runs}) == 3
    seeded = expert_runs(of(3, seed=5), splits.fingerprint, CPU, 40)
    assert seeded[0] == expert_runs(changed(TAUGHT, "teachers.expert.seed", 5), splits.fingerprint, CPU, 40)[0]
    assert not {run.seed for run in seeded} & {run.seed for run in runs}
    # Other seeds of the teachers, as a confirmation has, share no member.
    other = expert_runs(changed(of(3), "teachers.seed", 1), splits.fingerprint, CPU, 40)
    assert not {run.entry for run in other} & {run.entry for run in runs}
    assert expert_runs(of(2), splits.fingerprint, CPU, 40) == runs[:2]


def test_members_may_be_of_several_architectures_and_files(splits, tmp_path):
    file = str(tmp_path / "own.pt")
    runs = expert_runs(of(("wrn-16-1", "wrn-10-1", file, "wrn-10-1")), splits.fingerprint, CPU, 40)
    assert [run and run.architecture for run in runs] == ["wrn-16-1", "wrn-10-1", None, "wrn-10-1"]
    assert runs[1] == scratch_run(TAUGHT, splits.fingerprint, CPU, 40)
    assert runs[3].seed != runs[1].seed
    torch.save(build("wrn-10-1", splits.geometry, seed=9).state_dict(), file)
    wanted = of(("wrn-10-1", file))
    trained = list(teacher_runs(wanted, splits.fingerprint, CPU, Needs(expert=(LOGITS,)), 40))
    assert trained == [runs[1]]
    cache = TeacherCache(tmp_path / "teachers")
    prepared_trainer(wanted, splits, cache)
    loaded = load_expert(wanted, splits, cache, CPU)
    assert_same_bits(copied(loaded.members[1].network), copied(build("wrn-10-1", splits.geometry, seed=9)))


def test_each_ensemble_has_a_name_of_its_own_and_one_expert_keeps_its_own(splits, cache, tmp_path):
    file = tmp_path / "own.pt"
    torch.save(build("wrn-10-1", splits.geometry, seed=9).state_dict(), file)
    configs = [TAUGHT, of(2), of(3), of(("wrn-10-1", "wrn-16-1")), of(("wrn-10-1", str(file)))]
    names = [Experts(config, splits, cache, CPU, (), {}).identity(0) for config in configs]
    assert len(set(names)) == len(names)
    assert names[0] == scratch_run(TAUGHT, splits.fingerprint, CPU, 40).entry
    anchored = Experts(of(2), splits, cache, CPU, (0.5, 1.0), {})
    assert anchored.identity(0).count("after 1 epochs") == 2
    assert anchored.identity(1) == names[1]


def ended(config, splits, cache, mode):
    teachers = dataclasses.replace(config.teachers, mode=mode, storage="float32")
    trainer = prepared_trainer(dataclasses.replace(config, teachers=teachers), splits, cache)
    return [trainer.run_epoch()["loss"] for _ in range(config.epochs)], copied(trainer.student)


@pytest.mark.parametrize(
    "config",
    [
        of(3),
        of(("wrn-10-1", "wrn-16-1")),
        of(2, dataclasses.replace(TINY, method=MethodConfig("rco", {"anchors": 2}))),
        of(2, dataclasses.replace(TINY, method=MethodConfig("fs"))),
        of(2, dataclasses.replace(TINY, method=MethodConfig("pkt"))),
    ],
    ids=["ctkd", "architectures", "rco", "fs", "pkt"],
)
def test_recorded_equals_live_bit_for_bit(config, splits, cache):
    recorded = ended(config, splits, cache, "recorded")
    assert_same_bits(recorded, ended(config, splits, cache, "live"))
    alone = dataclasses.replace(config, teachers=dataclasses.replace(config.teachers, expert=ExpertConfig()))
    assert ended(alone, splits, cache, "recorded")[0] != recorded[0]


def test_a_trial_reads_one_recording_however_many_members_there_are(splits, cache):
    ended(of(3), splits, cache, "recorded")
    kinds = [path.name.split("-")[0] for path in cache.directory.iterdir() if path.is_dir()]
    assert sorted(kinds) == ["maps", "teacher", "teacher", "teacher"]


def test_its_accuracy_is_that_of_the_mean_logits(splits, cache):
    prepared_trainer(of(3), splits, cache)
    ensemble = load_expert(of(3), splits, cache, CPU)
    stream = make_stream(splits, TINY.augment, 0, CPU)
    found = evaluate(ensemble.classifier(), splits.validation, stream.normalise, CPU)
    pixels, labels = splits.validation.pixels, splits.validation.labels
    images = stream.normalise(torch.from_numpy(pixels))
    with torch.no_grad():
        mean = np.mean([member.network(images)[0].numpy() for member in ensemble.members], axis=0)
    assert found["accuracy"] == pytest.approx((mean.argmax(axis=1) == labels).mean())


def test_an_ensemble_has_no_network_of_its_own():
    with pytest.raises(TypeError, match="an ensemble has no single network"):
        _ = Ensemble(members(2)).network
