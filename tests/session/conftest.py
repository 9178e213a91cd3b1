"""A session on drawn discs."""

from __future__ import annotations

import pytest
from tests.fakes import DiscPredictor
from tests.runner import QueueRunner
from tests.session.books import Planes, PromptBook

from napari_sam.session import AnnotationSession
from napari_sam.store import EmbeddingCache


@pytest.fixture
def predictor():
    return DiscPredictor()


@pytest.fixture
def session(predictor):
    session = AnnotationSession(EmbeddingCache(10_000_000), lambda name, **_: predictor)
    session.errors = []
    session.failed.connect(session.errors.append)
    return session


@pytest.fixture
def runner(session):
    return QueueRunner(session)


@pytest.fixture
def ready(session, runner):
    """Give a session that has a model and looks at the first plane."""
    planes = Planes()
    session.use_model("discs")
    session.look_at(("image", 0), planes[0])
    runner.drain()
    return planes


@pytest.fixture
def prompts(session, ready):
    return PromptBook(session)
