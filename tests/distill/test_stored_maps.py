"""Recorded attention maps of a smaller size and with a byte for each number, and the students that they teach."""

import dataclasses

import numpy as np
import pytest
import torch
from support.tiny import TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.losses import attention, attention_map
from ctkd_search.distill.recorded import record_of
from ctkd_search.distill.requests import EMBEDDING, LOGITS, TeacherOutput
from ctkd_search.distill.stored_maps import pack_maps, smaller_maps, unpack_maps
from ctkd_search.storage import MapForm

pytestmark = pytest.mark.usefixtures("single_thread")
AT = MethodConfig("at", {"beta": 4000.0})
FORMS = [MapForm(), MapForm(4), MapForm(None, "uint8"), MapForm(4, "uint8"), MapForm(100, "uint8")]


def features(side=8, images=30, channels=6, seed=0):
    return torch.randn(images, channels, side, side, generator=torch.Generator().manual_seed(seed))


def kept(maps, form, storage="float32"):
    return unpack_maps(torch.from_numpy(pack_maps(maps, form, storage)), form)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_maps_without_a_form_are_those_of_the_storage(storage):
    maps = attention_map(features())
    assert torch.equal(kept(maps, MapForm(), storage), maps.to(getattr(torch, storage)).float())


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_rows_have_the_bytes_that_the_form_says(form):
    rows = pack_maps(attention_map(features()), form, "float16")
    assert rows.nbytes == 30 * form.map_bytes(64, "float16")


def test_map_of_bytes_has_its_length_and_is_near():
    maps = attention_map(features())
    found = kept(maps, MapForm(None, "uint8"))
    torch.testing.assert_close(found.norm(dim=1), maps.norm(dim=1))
    # Half of a byte's step, and what keeping the length adds to it.
    assert ((found - maps).abs() <= 0.6 * maps.amax(dim=1, keepdim=True) / 255).all()
    short = kept(0.3 * maps, MapForm(None, "uint8"))
    torch.testing.assert_close(short, 0.3 * found)


def test_map_of_zeros_stays_zero():
    zeros = torch.zeros(3, 64)
    for form in FORMS:
        assert torch.equal(kept(zeros, form), torch.zeros(3, 16 if form.size == 4 else 64))


def test_smaller_map_is_the_one_that_the_loss_compares_at_that_size():
    expert, student = features(8), features(4, seed=1)
    maps = attention_map(expert)
    assert attention(student, smaller_maps(maps, 4)) == pytest.approx(attention(student, maps).item(), rel=1e-6)
    assert smaller_maps(maps, 8) is maps
    assert smaller_maps(maps[:, :63], 4).shape == (30, 63)  # no square
    # A mean map is shorter than 1, and stays as short.
    torch.testing.assert_close(smaller_maps(0.5 * maps, 4).norm(dim=1), torch.full((30,), 0.5))


def test_names_of_records_tell_the_form_of_maps_alone():
    layer = TeacherOutput("attention", 2)
    assert len({record_of("maps-1", "float16", form, 3, layer) for form in FORMS}) == len(FORMS)
    for output in (LOGITS, EMBEDDING, TeacherOutput("statistics", 1)):
        assert len({record_of("maps-1", "float16", form, 3, output) for form in FORMS}) == 1


def ended(splits, cache, form, **teachers):
    """The losses of a trial's epochs, and its student."""
    changed = {"map_size": form.size, "map_storage": form.type, "storage": "float32", **teachers}
    settings = dataclasses.replace(TINY.teachers, mode="recorded", **changed)
    trainer = prepared_trainer(dataclasses.replace(TINY, method=AT, teachers=settings), splits, cache)
    losses = [trainer.run_epoch()["loss"] for _ in range(TINY.epochs)]
    return losses, copied(trainer.student)


def test_bytes_teach_nearly_as_all_numbers_and_a_smaller_size_otherwise(splits, cache):
    whole, in_bytes, small = (ended(splits, cache, form)[0] for form in (FORMS[0], FORMS[2], MapForm(1)))
    assert in_bytes[0] == pytest.approx(whole[0], rel=1e-2)
    assert in_bytes == pytest.approx(whole, rel=5e-2)
    assert in_bytes != whole
    assert small != pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("form", [MapForm(2, "uint8"), MapForm(2)], ids=str)
def test_expert_that_is_computed_in_the_trial_teaches_as_a_recorded_one(splits, cache, tmp_path, form):
    recorded = ended(splits, cache, form)
    empty = TeacherCache(tmp_path / "another")
    assert_same_bits(ended(splits, empty, form, cache_limit=0), recorded)
    assert empty.index.size("maps") == 0


def test_recorded_map_is_the_packed_one(splits, cache):
    ended(splits, cache, MapForm(2, "uint8"))
    (path,) = cache.directory.glob("maps-*/maps-uint8-2-0000-1.rec")
    rows = cache.read_array(f"{path.parent.name}/{path.stem}")
    assert rows.dtype == np.uint8
    assert rows.shape == (len(splits.train), 2 * 2 + 4)
