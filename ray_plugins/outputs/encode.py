"""Encodes a mesh: X3D 4.0 (ISO/IEC 19775-1) for X_ITE and x3dom, glTF 2.0 binary, binary STL."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from ray_plugins.outputs.mesh import Mesh

FIELD_OF_VIEW = math.pi / 4
#: Room around the model in the first view.
MARGIN = 1.1
STL_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])

Color = tuple[int, int, int]


def x3d(mesh: Mesh, title: str, color: Color, provenance: Mapping[str, str]) -> bytes:
    """Encode as X3D, nodes of the standard only. Coordinates stay in millimetres, patient LPS.

    The camera has a coordinate system of its own, whose y points to the patient's head: viewers keep the horizon by it
    (X_ITE would turn the view upside down). `provenance` goes into WorldInfo; it must name no patient.
    """
    low, high = np.array(mesh.bounds_mm[:3]), np.array(mesh.bounds_mm[3:])
    center = ((low + high) / 2)[[0, 2, 1]] * [1, 1, -1]
    distance = float(np.linalg.norm(high - low)) / 2 / math.sin(FIELD_OF_VIEW / 2) * MARGIN
    eye = center + np.array([0, 0, distance])  # from in front
    facts = {"coordinates": "DICOM patient coordinates (LPS)", "unit": "millimetre", **provenance}
    info = " ".join(quoteattr(f'"{name}={value}"'.replace("\\", ""))[1:-1] for name, value in facts.items())
    diffuse = _numbers(np.array(color) / 255, 3)
    normals = " ".join(f"{value:.2f}" for value in mesh.normals.ravel().tolist())
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE X3D PUBLIC "ISO//Web3D//DTD X3D 4.0//EN" "https://www.web3d.org/specifications/x3d-4.0.dtd">
<X3D profile="Interchange" version="4.0">
<head>
<component name="Shape" level="2"/>
<meta name="title" content={quoteattr(title)}/>
<meta name="generator" content="Isthmus"/>
</head>
<Scene>
<WorldInfo title={quoteattr(title)} info='{info.replace("'", "&apos;")}'/>
<NavigationInfo type='"EXAMINE" "ANY"' headlight="true"/>
<Transform rotation="1 0 0 {math.pi / 2:.6f}">
<Viewpoint description="Anterior" position="{_numbers(eye, 1)}" centerOfRotation="{_numbers(center, 1)}" \
fieldOfView="{FIELD_OF_VIEW:.5f}"/>
</Transform>
<Shape>
<Appearance><Material diffuseColor="{diffuse}" specularColor="0.2 0.2 0.2" shininess="0.3"/></Appearance>
<IndexedTriangleSet solid="true" normalPerVertex="true" index="{" ".join(map(str, mesh.faces.ravel().tolist()))}">
<Coordinate point="{_numbers(mesh.vertices, 2)}"/>
<Normal vector="{normals}"/>
</IndexedTriangleSet>
</Shape>
</Scene>
</X3D>
""".encode()


def glb(mesh: Mesh, title: str, color: Color) -> bytes:
    """Encode as glTF 2.0 binary. Vertices stay in millimetres LPS; the node turns them to metres, y up, z front."""
    points, normals = mesh.vertices.astype("<f4"), mesh.normals.astype("<f4")
    index = mesh.faces.astype("<u4")
    parts = [points.tobytes(), normals.tobytes(), index.tobytes()]
    offsets = [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    float32, uint32 = 5126, 5125
    linear = [(value / 255) ** 2.2 for value in color]
    document = {
        "asset": {"version": "2.0", "generator": "Isthmus"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        # columns: left (x) stays x, posterior (y) becomes -z, superior (z) becomes y; millimetres become metres
        "nodes": [{"mesh": 0, "name": title, "matrix": [1e-3, 0, 0, 0, 0, 0, -1e-3, 0, 0, 1e-3, 0, 0, 0, 0, 0, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": 0}]}],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorFactor": [*linear, 1], "metallicFactor": 0, "roughnessFactor": 0.6}}
        ],
        "buffers": [{"byteLength": sum(map(len, parts))}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(part), "target": target}
            for offset, part, target in zip(offsets, parts, (34962, 34962, 34963), strict=True)
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": float32,
                "count": len(points),
                "type": "VEC3",
                "min": points.min(axis=0).tolist(),
                "max": points.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": float32, "count": len(normals), "type": "VEC3"},
            {"bufferView": 2, "componentType": uint32, "count": index.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(parts)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    chunks = struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", len(binary), b"BIN\0"), binary
    return b"".join([header, *chunks])


def stl(mesh: Mesh) -> bytes:
    """Encode as binary STL, millimetres LPS. Equal vertices are equal bytes, so that readers can weld them."""
    corners = mesh.vertices[mesh.faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(crossed, axis=1, keepdims=True)
    records = np.zeros(len(corners), STL_RECORD)
    records["normal"] = np.divide(crossed, length, out=np.zeros_like(crossed), where=length > 0)
    records["corners"] = corners
    header = b"Isthmus; millimetres; DICOM patient coordinates (LPS)".ljust(80)
    return header + struct.pack("<I", len(records)) + records.tobytes()


def _numbers(values: NDArray[np.float64], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values.ravel().tolist())
