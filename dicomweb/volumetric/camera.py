"""Where a volume is seen from (PS3.18 sections 8.3.5.3.4 to 8.3.5.3.7): orthographic, in patient coordinates (LPS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomweb.errors import BadRequest
from dicomweb.volumetric.options import Vector, View

Array = NDArray[np.float64]

# Directions in LPS: x to the patient's left, y to the posterior, z to the head.
_TOWARDS: dict[str, Vector] = {
    "a": (0.0, -1.0, 0.0),
    "p": (0.0, 1.0, 0.0),
    "r": (-1.0, 0.0, 0.0),
    "l": (1.0, 0.0, 0.0),
    "h": (0.0, 0.0, 1.0),
    "f": (0.0, 0.0, -1.0),
}
#: Directions closer than this are parallel.
_PARALLEL = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera: its place, the point it looks at, in mm; unit vectors forward, up and right as the viewer sees them."""

    position: Array
    look_at: Array
    forward: Array
    up: Array

    @property
    def right(self) -> Array:
        """To the right of the picture: LPS is right-handed."""
        return np.cross(self.forward, self.up)

    def turned(self, degrees: float) -> Camera:
        """The camera after the volume has turned about the axis along `up` through `look_at` (8.3.5.3.9).

        The near side moves to the viewer's right.
        """
        angle = np.radians(-degrees)
        forward = _rotated(self.forward, self.up, angle)
        position = self.look_at + _rotated(self.position - self.look_at, self.up, angle)
        return Camera(position, self.look_at, forward, self.up)

    def moved(self, look_at: Array) -> Camera:
        """The same view of another point."""
        return Camera(self.position + look_at - self.look_at, look_at, self.forward, self.up)


def camera(view: View, center: Array, distance_mm: float) -> Camera:
    """The camera of a view.

    Parameters
    ----------
    center : of the volume, in mm; looked at where the view names no other point.
    distance_mm : how far away the camera is where the view names no place; parallel projection shows no difference.

    Raises
    ------
    BadRequest : if the directions are parallel or the points coincide.
    """
    look_at = np.array(view.look_at or center, np.float64)
    if view.position is None:
        towards = np.array(_TOWARDS[view.orientation or "a"])
        position = look_at + towards * distance_mm
    else:
        position = np.array(view.position, np.float64)
    forward = look_at - position
    length = float(np.linalg.norm(forward))
    if length < _PARALLEL:
        raise BadRequest("The parameters viewpointposition and viewpointlookat are the same point.")
    forward /= length
    return Camera(position, look_at, forward, _up(view.up, forward))


def along(tangent: Array, look_at: Array, distance_mm: float) -> Camera:
    """A camera that looks along a curve: its plane is perpendicular to it."""
    forward = tangent / np.linalg.norm(tangent)
    return Camera(look_at - forward * distance_mm, look_at, forward, _up(None, forward))


def _up(wanted: Vector | None, forward: Array) -> Array:
    """The up direction, made perpendicular to the view; by default to the head, or else to the patient's front."""
    if wanted is None:
        wanted = _TOWARDS["h"] if abs(forward[2]) < 1 - 1e-3 else _TOWARDS["a"]
    up = np.array(wanted, np.float64)
    up /= np.linalg.norm(up)
    up -= (up @ forward) * forward
    length = float(np.linalg.norm(up))
    if length < _PARALLEL:
        raise BadRequest("The parameter viewpointup is parallel to the direction of the view.")
    return np.asarray(up / length, np.float64)


def _rotated(vector: Array, axis: Array, angle: float) -> Array:
    """Rodrigues' formula; `axis` is a unit vector."""
    along_axis = axis * (axis @ vector)
    return np.asarray(along_axis + (vector - along_axis) * np.cos(angle) + np.cross(axis, vector) * np.sin(angle))
