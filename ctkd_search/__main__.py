"""``python -m ctkd_search`` is ``ctkd-search``."""

from ctkd_search.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
