"""A head of ellipsoids, as CT and as MR, whose every part is known: what defacing must take, and what it must not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ray_plugins.sdk import Volume
from ray_plugins.testing import Phantom

#: Hounsfield units, and the signal of a T1-weighted and of a T2-weighted MR.
SIGNALS = {
    "CT": {"air": -1000, "skin": -60, "muscle": 55, "bone": 900, "brain": 35, "fluid": 8, "eye": 10},
    "T1": {"air": 8, "skin": 900, "muscle": 260, "bone": 20, "brain": 480, "fluid": 90, "eye": 110},
    "T2": {"air": 8, "skin": 700, "muscle": 160, "bone": 20, "brain": 420, "fluid": 1100, "eye": 1000},
}


@dataclass(frozen=True)
class Head(Phantom):
    """A head that looks along -y, unless it is turned to a side or nods.

    Attributes
    ----------
    kind : CT, T1 or T2.
    turn_deg, nod_deg : to its left, and downward.
    face : without, the field of view ends above the eyes.
    """

    shape: tuple[int, int, int] = (66, 100, 80)
    spacing_mm: tuple[float, float, float] = (4.0, 2.5, 2.5)
    kind: str = "CT"
    turn_deg: float = 0
    nod_deg: float = 0
    noise: float = 8

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """Places of the voxels in the head's own millimetres, (3, slices, rows, columns): left, back, up."""
        turn, nod = np.radians([self.turn_deg, self.nod_deg])
        around = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        nodded = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
        affine = self.affine
        index = np.indices(self.shape, np.float32).reshape(3, -1)
        places = affine[:3, :3] @ index + (affine[:3, 3] - self.center_mm)[:, None]
        own = (around @ nodded).T @ places + np.array([[0], [-10], [-30]])  # the face needs more room than the vertex
        return own.reshape(3, *self.shape).astype(np.float32)

    def ellipsoid(self, center: tuple[float, float, float], axes: tuple[float, float, float]) -> NDArray[np.bool_]:
        """Mark what is in an ellipsoid."""
        parts = zip(self.points, center, axes, strict=True)
        return sum(((at - middle) / half) ** 2 for at, middle, half in parts) <= 1

    @cached_property
    def brain(self) -> NDArray[np.bool_]:
        """The brain with its ventricles."""
        return self.ellipsoid((0, 0, 10), (64, 84, 70))

    @cached_property
    def nose(self) -> NDArray[np.bool_]:
        """The nose, where it stands out."""
        return self.ellipsoid((0, -98, -58), (13, 22, 22))

    @cached_property
    def eyes(self) -> NDArray[np.bool_]:
        """Both eyes."""
        return self.ellipsoid((32, -78, -45), (12, 12, 12)) | self.ellipsoid((-32, -78, -45), (12, 12, 12))

    @cached_property
    def chin(self) -> NDArray[np.bool_]:
        """Mouth and chin."""
        return self.ellipsoid((0, -66, -100), (34, 28, 34))

    @cached_property
    def ears(self) -> NDArray[np.bool_]:
        """The auricles, where they stand out of the head."""
        both = self.ellipsoid((80, 5, -30), (10, 16, 28)) | self.ellipsoid((-80, 5, -30), (10, 16, 28))
        return both & ~self.ellipsoid((0, 0, 10), (76, 96, 82)) & ~self.neck

    @cached_property
    def neck(self) -> NDArray[np.bool_]:
        """Neck and the base of the skull."""
        x, y, z = self.points
        return (np.hypot(x, y - 12) < 52) & (z < -40)

    def array(self) -> NDArray[np.int16]:
        """Grey values, with noise; later parts lie over earlier ones."""
        x, y, z = self.points
        signal = SIGNALS[self.kind]
        canal = (np.hypot(x, y - 18) < 9) & (z < 0)
        face = self.ellipsoid((0, -45, -62), (60, 52, 74)) | self.nose | self.chin
        painted = [
            ("skin", face | self.ears | self.ellipsoid((0, 0, 10), (76, 96, 82))),
            ("muscle", self.neck | self.ellipsoid((0, -45, -62), (55, 47, 69))),
            ("eye", self.eyes),
            ("bone", self.ellipsoid((0, 0, 10), (71, 91, 77)) | (self.neck & (np.hypot(x, y - 18) < 16))),
            ("fluid", canal | self.ellipsoid((0, 0, 10), (65, 85, 71))),
            ("brain", self.brain | (canal & (np.hypot(x, y - 18) < 6))),
            ("fluid", self.ellipsoid((0, 5, 15), (10, 35, 10))),
        ]
        values = np.full(self.shape, signal["air"], np.float32)
        for name, mask in painted:
            values[mask] = signal[name]
        values += np.random.default_rng(1).normal(0, self.noise, self.shape).astype(np.float32)
        return np.rint(values if self.kind == "CT" else np.abs(values)).astype(np.int16)

    def volume(self) -> Volume:
        """Give it as a plugin gets a series."""
        header = Dataset()
        header.Modality = "CT" if self.kind == "CT" else "MR"
        return Volume(self.array(), self.affine, (header,))
