"""Images that are streamed from their files: the same lessons, the same weights, and a training that goes on."""

import io
import itertools

import pytest
import torch
from support.augmented import AUGMENTED
from support.layouts import folder_config, write_folder
from support.tiny import CPU, TINY, assert_same_bits, changed, copied, prepare_teachers, prepared_trainer

from ctkd_search.config import Augment
from ctkd_search.data import ImageFiles, Images, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recorded import MAPS
from ctkd_search.distill.recording import prepare
from ctkd_search.metrics import CLOCKS

pytestmark = pytest.mark.usefixtures("single_thread", "_small_pieces")
CROP, RESIZED = Augment(crop=3), Augment(crop=0, resized_crop=(0.2, 1.0))
VIEWS = pytest.mark.parametrize(
    "augment", [CROP, RESIZED, AUGMENTED["everything"]], ids=["crop", "resized crop", "everything"]
)
MODES = pytest.mark.parametrize("mode", ["live", "recorded"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of 14 pixels, of which students see 12; some 43 in all to learn from."""
    root = tmp_path_factory.mktemp("pictures")
    write_folder(root, images=18, size=14)
    return root


@pytest.fixture
def _small_pieces(monkeypatch):
    """Pieces of work that end within the batches of student, scratch teacher and expert."""
    monkeypatch.setattr("ctkd_search.data.file_stream._PIECE_IMAGES", 5)


def loaded(folder, augment, loading="streamed", workers=0):
    """The images, in memory or streamed."""
    splits = load_train(folder_config(folder, validation=0.2, loading=loading, workers=workers), [augment])
    assert isinstance(splits.train, ImageFiles if loading == "streamed" else Images)
    return splits


def config(augment, mode, epochs=2):
    """CTKD with a student whose batches are other ones than its teacher's; nothing is rounded."""
    made = changed(changed(TINY, "augment", augment), "epochs", epochs)
    made = changed(changed(made, "teachers.mode", mode), "teachers.storage", "float32")
    return changed(made, "train.batch_size", 7)


def ended(trainer):
    """Every epoch that is left, and the student's last weights."""
    epochs = [trainer.run_epoch() for _ in range(trainer.epoch, trainer.epochs)]
    numbers = [{key: epoch[key] for key in epoch if key not in CLOCKS} for epoch in epochs]
    return numbers, copied(trainer.student)


@VIEWS
def test_recorded_equals_live_bit_for_bit(folder, augment, tmp_path):
    splits = loaded(folder, augment)
    found = [ended(prepared_trainer(config(augment, mode), splits, TeacherCache(tmp_path))) for mode in MODES.args[1]]
    assert_same_bits(*found)


@VIEWS
def test_outputs_that_are_computed_equal_recorded_ones(folder, augment, tmp_path):
    """A lesson is longer than a piece, so that its images have been passed when the expert first reads."""
    splits, made = loaded(folder, augment), config(augment, "recorded")
    expected = ended(prepared_trainer(made, splits, TeacherCache(tmp_path / "recorded")))
    nothing_kept = TeacherCache(tmp_path / "computed")
    assert_same_bits(ended(prepared_trainer(changed(made, "teachers.cache_limit", 0), splits, nothing_kept)), expected)
    assert nothing_kept.index.size(MAPS) == 0


@pytest.mark.slow
def test_a_process_that_decodes_and_images_in_memory_train_the_same_student(folder, tmp_path):
    made = config(CROP, "recorded")
    here, there, resident = (
        loaded(folder, CROP),
        loaded(folder, CROP, workers=1),
        loaded(folder, CROP, "resident", None),
    )
    found = [
        ended(prepared_trainer(made, splits, TeacherCache(tmp_path / str(number))))
        for number, splits in enumerate((here, there, resident))
    ]
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


@MODES
def test_a_training_that_broke_off_within_an_epoch_goes_on_bit_for_bit(folder, mode, tmp_path):
    made, splits, cache = config(RESIZED, mode, epochs=3), loaded(folder, RESIZED), TeacherCache(tmp_path)
    expected = ended(prepared_trainer(made, splits, cache))
    broken = make_trainer(made, splits, cache, CPU)
    first = broken.run_epoch()["loss"]
    kept = io.BytesIO()
    torch.save(broken.state_dict(), kept)
    for lesson in itertools.islice(broken.teachers.lessons(1), 2):
        broken.step(lesson)
    again = make_trainer(made, loaded(folder, RESIZED), cache, CPU)
    again.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    numbers, weights = ended(again)
    assert [first, *(epoch["loss"] for epoch in numbers)] == [epoch["loss"] for epoch in expected[0]]
    assert_same_bits((numbers, weights), (expected[0][1:], expected[1]))


def test_a_teacher_that_broke_off_is_recorded_to_the_same_bytes(folder, tmp_path):
    made = config(RESIZED, "recorded", epochs=3)
    whole, broken = TeacherCache(tmp_path / "whole"), TeacherCache(tmp_path / "broken")
    prepare_teachers(made, loaded(folder, RESIZED), whole)
    splits = loaded(folder, RESIZED)
    ((run, wanted),) = teacher_runs(
        made, splits.fingerprint, CPU, make_method(made.method).needs, len(splits.train)
    ).items()
    going = prepare(run, splits, broken, CPU, wanted)
    assert next(going).epoch == 1
    going.close()
    assert [told.epoch for told in prepare_teachers(made, loaded(folder, RESIZED), broken)] == [2, 3, 3]
    contents = [{path.name: path.read_bytes() for path in place.directory.rglob("*.rec")} for place in (whole, broken)]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 4
