"""Durations as users write them."""

import pytest

from ctkd_search.units import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), (90, 90), (0.5, 0.5), ("1.5", 1.5), ("45s", 45), ("90m", 5400), ("2h", 7200), ("1h30m", 5400),
        ("1h0m5s", 3605), (" 10s ", 10), ("", None), ("0", None), ("0h0m", None), ("-5", None), ("soon", None),
        ("30m1h", None), ("1.5h", None), ("1h30", None), ("2 h", None), (True, None), (float("nan"), None),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    if seconds is not None:
        assert duration(text) == seconds
    else:
        with pytest.raises(ValueError, match="must be a duration such as 90s, 45m or 1h30m, but got"):
            duration(text)
