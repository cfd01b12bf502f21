"""Mappings in braces whose keys lack the space that YAML wants after a colon."""

import pytest

from ctkd_search.errors import UserError
from ctkd_search.space.document import Document


@pytest.mark.parametrize("value", ["{top:2}", "{a: {top:2}, b: 1}", "[{top:2}]", "{a: 1, top:2}"])
def test_a_space_that_a_mapping_of_an_override_lacks_is_named(value):
    with pytest.raises(UserError) as caught:
        Document("f.yaml", "a: 1", [f"a.b={value}"])
    advice = "needs a space after the colon, as in '{top: 2}'"
    assert str(caught.value) == f"--set a.b: 'top:2' in {value!r} {advice}"


@pytest.mark.parametrize("value", ['{"top":2}', '{"a:b": null}', "{a:b: 2}", "{a: }", "{my:net: null}"])
def test_what_lacks_no_space_is_taken(value):
    assert isinstance(Document("x", "", [f"a={value}"]).data["a"], dict)
