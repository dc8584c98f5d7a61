"""Surfaces: marching cubes in patient millimetres, Taubin smoothing, quadric decimation, proven watertight.

The order matters: decimation of an unsmoothed mask leaves holes, of a smoothed one it does not (measured); if it does,
manifold3d, whose results are manifold by construction, simplifies instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_plugins.sdk import PluginError, Surface, Volume

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]

#: Vertices lie on this grid, so that every encoding holds the same and equal vertices are equal in each.
GRID_MM = 0.01
MAX_MOVES = 20
#: What simplification may give up, step by step.
TOLERANCES_MM = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
#: Shrink, then inflate a little more (Taubin 1995, "Curve and surface smoothing without shrinkage").
SHRINK, INFLATE = 0.5, -0.53
#: Least distance of a voxel's value from the level, as a part of RANGE: keeps vertices off the corners of the grid.
MARGIN = 0.05
#: The range around the level in the image's unit that is interpolated; beyond, inside is inside.
RANGE = 150.0


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A closed triangle mesh: vertices (n, 3) in millimetres LPS, faces (m, 3) counter-clockwise seen from outside."""

    vertices: Vertices
    faces: Faces

    @property
    def volume_ml(self) -> float:
        """Enclosed volume, by the divergence theorem."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000)

    @property
    def area_cm2(self) -> float:
        """Surface area."""
        return float(np.linalg.norm(self._crossed, axis=1).sum() / 200)

    @property
    def bounds_mm(self) -> tuple[float, float, float, float, float, float]:
        """Least and greatest coordinates."""
        low, high = self.vertices.min(axis=0).tolist(), self.vertices.max(axis=0).tolist()
        return (*low, *high)

    @property
    def normals(self) -> NDArray[np.float64]:
        """Unit vertex normals (n, 3), outward, weighted by area."""
        total = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(total, self.faces[:, corner], self._crossed)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        up = np.tile([0.0, 0.0, 1.0], (len(total), 1))
        return np.asarray(np.divide(total, length, out=up, where=length > 0))

    @property
    def is_watertight(self) -> bool:
        """Whether each edge is used by exactly two faces, once in each direction, and no two vertices are equal."""
        if len(np.unique(self.vertices, axis=0)) < len(self.vertices):
            return False
        edges = self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        forward = np.sort(edges[:, 0] * len(self.vertices) + edges[:, 1])
        backward = np.sort(edges[:, 1] * len(self.vertices) + edges[:, 0])
        unique = bool((np.diff(forward) > 0).all())
        return unique and bool((forward == backward).all()) and bool((edges[:, 0] != edges[:, 1]).all())

    @property
    def _crossed(self) -> NDArray[np.float64]:
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return np.cross(b - a, c - a)


def build(surface: Surface, volume: Volume) -> Mesh:
    """Make the mesh of a surface.

    Raises
    ------
    PluginError : the mask is empty or has another shape than the volume.
    """
    if surface.mask.shape != volume.array.shape:
        raise PluginError(f'The mask of "{surface.title}" has another shape than the series.')
    if not surface.mask.any():
        raise PluginError(f'There is nothing to make the surface "{surface.title}" of: the mask is empty.')
    raw = _march(surface, volume.affine)
    smooth = Mesh(_taubin(raw.vertices, raw.faces, surface.smooth), raw.faces)
    mesh = _snap(_within(_decimate(smooth, surface.triangles), volume))
    if not mesh.is_watertight:
        mesh = _snap(_within(_simplify(smooth, surface.triangles), volume))
    if not mesh.is_watertight:
        raise PluginError(f'The surface "{surface.title}" could not be closed.')
    return mesh


def _march(surface: Surface, affine: NDArray[np.float64]) -> Mesh:
    """Find the surface of a mask, in millimetres. One voxel of padding closes it at the borders of the volume."""
    from skimage.measure import marching_cubes

    box = _bounding_box(surface.mask)
    inside = np.pad(surface.mask[box], 1)
    field = np.where(inside, np.float32(1), np.float32(-1))
    if surface.image is not None:
        values = np.pad(surface.image[box].astype(np.float32), 1, mode="edge")
        depth = np.clip((values - np.float32(surface.level)) / np.float32(RANGE), -1, 1)
        field = np.where(inside, np.maximum(depth, MARGIN), np.minimum(depth, -MARGIN)).astype(np.float32)
        for axis in range(3):  # padding is outside, whatever the image goes on with
            for end in (0, -1):
                np.moveaxis(field, axis, 0)[end] = -1
    found, faces, _, _ = marching_cubes(field, 0.0)
    index = found.astype(np.float64) - 1 + [part.start for part in box]
    vertices = index @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) > 0:  # scikit-image turns faces for the mirrored grids that images have
        faces = faces[:, ::-1]
    return Mesh(vertices, faces.astype(np.int64))


def _within(mesh: Mesh, volume: Volume) -> Mesh:
    """Move back what smoothing pushed beyond the edges of the outermost voxels, by fractions of a voxel."""
    index = (mesh.vertices - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    inside = np.clip(index, -0.5, np.array(volume.array.shape) - 0.5)
    return Mesh(inside @ volume.affine[:3, :3].T + volume.affine[:3, 3], mesh.faces)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _taubin(vertices: Vertices, faces: Faces, iterations: int) -> Vertices:
    """Smooth without shrinking: alternate a step towards the mean of the neighbours and a longer one away from it."""
    from scipy.sparse import coo_array

    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = len(vertices)
    neighbours = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    mean = neighbours.multiply(1 / neighbours.sum(axis=1)[:, None]).tocsr()
    for _ in range(iterations):
        for factor in (SHRINK, INFLATE):
            vertices = vertices + factor * (mean @ vertices - vertices)
    return vertices


def _decimate(mesh: Mesh, triangles: int) -> Mesh:
    """Collapse edges by quadric error (Garland and Heckbert 1997) down to so many triangles."""
    if len(mesh.faces) <= triangles:
        return mesh
    from fast_simplification import simplify

    vertices, faces = simplify(mesh.vertices, mesh.faces.astype(np.int32), target_count=triangles)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))


def _simplify(mesh: Mesh, triangles: int) -> Mesh:
    """Simplify by growing tolerance, manifold at every step."""
    from manifold3d import Manifold
    from manifold3d import Mesh as ManifoldMesh

    given = ManifoldMesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    given.merge()
    solid: Any = Manifold(given)
    for tolerance_mm in TOLERANCES_MM:
        solid = solid.simplify(tolerance_mm)
        if solid.num_tri() <= triangles:
            break
    out = solid.to_mesh()
    return Mesh(np.asarray(out.vert_properties[:, :3], np.float64), np.asarray(out.tri_verts, np.int64))


def _snap(mesh: Mesh) -> Mesh:
    """Put vertices on the grid, no two in one place: where sheets touch, welding them would leave edges of four faces.

    A vertex whose place is taken moves inwards, by one step of the grid more each time.
    """
    used, faces = np.unique(mesh.faces, return_inverse=True)
    mesh = Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int64))
    inwards = -mesh.normals * GRID_MM
    vertices = mesh.vertices.copy()
    for _ in range(MAX_MOVES):
        grid = np.rint(vertices / GRID_MM).astype(np.int64)
        _, first = np.unique(grid, axis=0, return_index=True)
        if len(first) == len(grid):
            break
        taken = np.setdiff1d(np.arange(len(grid)), first, assume_unique=True)
        vertices[taken] += inwards[taken]
    return Mesh(np.asarray(grid * GRID_MM, np.float64), mesh.faces)
