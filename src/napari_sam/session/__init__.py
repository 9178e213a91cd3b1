"""The behaviour of the dock in pure Python: no Qt, no napari, no thread."""

from napari_sam.session.annotation import AnnotationSession
from napari_sam.session.history import Decision, History, NotNowError
from napari_sam.session.jobs import Job, JobDesk
from napari_sam.session.moments import Write
from napari_sam.session.offers import Annotation, LevelMemory, Offer
from napari_sam.session.status import Status
from napari_sam.session.storage import Storage
from napari_sam.session.work import Filters, Sifted, View

__all__ = [
    "Annotation",
    "AnnotationSession",
    "Decision",
    "Filters",
    "History",
    "Job",
    "JobDesk",
    "LevelMemory",
    "NotNowError",
    "Offer",
    "Sifted",
    "Status",
    "Storage",
    "View",
    "Write",
]
