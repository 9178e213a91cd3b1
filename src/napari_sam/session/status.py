"""What the status line says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """Model, device and state of the current plane.

    Parameters
    ----------
    model, device : str
        Empty while no model is loaded.
    phase : str
        ``"no image"``, ``"loading"``, ``"embedding"``, ``"ready"`` or ``"failed"``.
    seconds : float
        How long the encoder took for this plane.
    cached : bool
        Whether the embedding was there already.
    stored : bool
        Whether it was in a folder and not in memory.
    message : str
        Why it failed, or what did not go well beside.
    part : str
        Size and resolution of what is embedded of a large plane.
    """

    model: str = ""
    device: str = ""
    phase: str = "no image"
    seconds: float = 0.0
    cached: bool = False
    stored: bool = False
    message: str = ""
    part: str = ""

    def __str__(self) -> str:
        """Return one line for a person to read."""
        model = f"{self.model} on {self.device}" if self.model else "no model yet"
        return f"{model} · {self._phase()}"

    def _phase(self) -> str:
        if self.phase == "ready":
            took = f"{self.seconds:.2f} s"
            place = "the folder" if self.stored else "memory"
            ready = f"embedding from {place} (took {took})" if self.cached else f"embedded in {took}"
            ready = f"in view: {self.part}, {ready}" if self.part else ready
            return f"{ready}. {self.message}" if self.message else ready
        return {
            "no image": "open an image to begin",
            "loading": "loading the model…",
            "embedding": "embedding the plane…",
            "failed": self.message,
        }[self.phase]
