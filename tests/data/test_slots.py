"""Results of decoding processes in shared memory: what is taken stays, whatever is written to its slot later."""

import multiprocessing

import pytest
import torch
from PIL import Image

from ctkd_search.data import slots
from ctkd_search.data.slots import PIECE_BYTES, Slots, shared_slots
from ctkd_search.data.workers import DecodingPool, Job


def images(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def test_what_was_put_is_taken_and_stays_when_the_slot_is_written_to_again():
    found, first, second = Slots(2), images(3, 8, 8, 3), images(2, 2, 5, 5, 1)
    sent = found.put(1, first)
    assert sent == [1, 3, 8, 8, 3]
    taken = found.take(sent)
    again = found.take(found.put(1, second.transpose(2, 3)))
    assert torch.equal(taken, first)
    assert torch.equal(again, second.transpose(2, 3))


def test_what_does_not_fit_is_sent_itself():
    found = Slots(1)
    for size in (PIECE_BYTES, PIECE_BYTES + 1):
        whole = images(1, size, 1, 1)
        sent = found.put(0, whole)
        assert (sent is whole) is (size > PIECE_BYTES)
        assert torch.equal(found.take(sent), whole)


def _write(found, image):
    found.put(0, image)


def test_another_process_writes_to_the_same_memory():
    found, image = Slots(1), images(1, 4, 4, 3)
    process = multiprocessing.get_context("forkserver").Process(target=_write, args=(found, image))
    process.start()
    process.join()
    assert torch.equal(found.take([0, 1, 4, 4, 3]), image)


def test_without_room_there_are_none(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(slots.Tensor, "share_memory_", full)
    assert shared_slots(3) is None


@pytest.mark.parametrize("shared", [True, False])
def test_results_come_in_their_order_and_stay_however_late_they_are_taken(tmp_path, monkeypatch, shared):
    if not shared:
        monkeypatch.setattr("ctkd_search.data.workers.shared_slots", lambda count: None)
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    jobs = [Job([str(tmp_path / f"{number}.png")] * (1 + number % 3), 8, 1) for number in range(40)]
    pool = DecodingPool(2, pinned=False)
    try:
        # The first run is left in its middle: what was ahead of it is written to slots of the second one.
        early = [result for _, result in zip(range(7), pool.run(jobs), strict=False)]
        for found, count in ((early, 7), (list(pool.run(jobs)), 40)):
            assert [result.unique().tolist() for result in found] == [[number] for number in range(count)]
            assert [len(result) for result in found] == [1 + number % 3 for number in range(count)]
    finally:
        pool.close()
