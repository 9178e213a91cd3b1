"""Measure every object of a label image, in pixels and in physical units.

All objects are measured at once by counting (`numpy.bincount`), plane by plane, so that ten thousand cells
take no longer than ten and a stack need not fit into memory.

* `sums`: what is counted while the planes go by;
* `shape`: perimeters, surfaces and axes out of the counts;
* `table`: the columns.
"""

from __future__ import annotations

from napari_sam.measure.sums import MeasureError
from napari_sam.measure.table import region_table

__all__ = ["MeasureError", "region_table"]
