"""The graph of a network, and what is said where there is none."""

import pytest
import torch
from support.own_nets import Plain
from torch import nn

from ctkd_search.models.graph import NoGraph, graph_of


def test_a_graph_takes_any_number_of_images(capfd):
    network = Plain(3, 1).eval()
    graph = graph_of(network, "mine", torch.zeros(2, 1, 8, 8)).module()
    for count in (1, 2, 5):
        images = torch.randn(count, 1, 8, 8)
        torch.testing.assert_close(graph(images), network(images))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError(""), ValueError("no. For more information, ask")], ids=str)
def test_an_error_has_a_short_message_and_a_place_in_code_of_neither_torch_nor_this_package(error):
    class Failing(nn.Module):
        def forward(self, images):
            raise error

    with pytest.raises(NoGraph) as caught:
        graph_of(Failing(), "mine", torch.zeros(2, 1, 8, 8))
    line = Failing.forward.__code__.co_firstlineno + 1
    message = str(error).partition(".")[0] or "ValueError"
    assert str(caught.value).startswith(
        f"mine cannot be exported as a graph: {message} ({__file__}, line {line}); its code must compute with torch"
    )
    with pytest.raises(NoGraph) as caught:
        graph_of(nn.Linear(3, 2), "mine", torch.zeros(2, 4))
    assert "line" not in str(caught.value)


def test_too_little_memory_is_no_fault_of_the_network():
    class Large(nn.Module):
        def forward(self, images):
            raise MemoryError

    with pytest.raises(MemoryError):
        graph_of(Large(), "mine", torch.zeros(2, 1, 8, 8))
