"""Speed against the reference implementation, both in one run: ``make bench``."""
