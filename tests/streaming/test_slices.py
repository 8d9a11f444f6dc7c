"""Slices of a micro-batch, without Spark; with it: tests/integration/test_kafka.py."""

from streaming import slices as slices_module
from tests.streaming.test_positions import batch


def records(partition, *offsets):
    return [(partition, offset) for offset in offsets]


def test_slices_end_where_their_rows_do_and_together_cover_the_batch(monkeypatch):
    """Three parts: the first task stopped after two rows, the second read had all of partition 1 and some of 0."""
    parts = iter(
        [
            (batch(*records(0, 0, 2)), False),
            (batch(*records(1, 5, 6), *records(0, 3)), False),
            (batch(*records(0, 9)), True),
        ]
    )
    asked = []

    def collect_up_to(read, _step, most_bytes, _niceness):
        asked.append((read, most_bytes))
        return next(parts)

    monkeypatch.setattr(slices_module, "collect_up_to", collect_up_to)
    found = list(slices_module.slices("all", {0: (0, 11), 1: (5, 8)}, None, dict, most_bytes=100))
    assert [part.covered for part in found] == [{0: (0, 3)}, {1: (5, 7), 0: (3, 4)}, {0: (4, 11), 1: (7, 8)}]
    assert [part.records for part in found] == [{0: (0, 3)}, {1: (5, 7), 0: (3, 4)}, {0: (4, 11), 1: (7, 8)}]
    assert asked == [("all", 50), ({0: (3, 11), 1: (5, 8)}, 50), ({0: (4, 11), 1: (7, 8)}, 50)]
