import { expect, test } from "vitest";
import { sphereAround } from "../src/imaging/bounds";
import { type Vector, cross, dot } from "../src/imaging/geometry";
import { DIRECTIONS, cameraRotation } from "../src/imaging/orientation";

/** Rodrigues' formula. */
function rotate(vector: Vector, axis: Vector, angle: number): number[] {
  const across = cross(axis, vector);
  const along = dot(axis, vector) * (1 - Math.cos(angle));
  return vector.map(
    (value, at) => value * Math.cos(angle) + (across[at] as number) * Math.sin(angle) + (axis[at] as number) * along,
  );
}

test.each(DIRECTIONS)("from $name the camera looks back along the normal with its own up", (direction) => {
  const { axis, angle } = cameraRotation(direction);
  const rounded = (vector: Vector) => rotate(vector, axis, angle).map((value) => Math.round(value) + 0);
  expect(rounded([0, 0, 1])).toEqual([...direction.normal]);
  expect(rounded([0, 1, 0])).toEqual([...direction.up]);
});

test("the sphere around a mesh is that of its bounding box", () => {
  const x3d = `<Shape><IndexedTriangleSet><Coordinate point="0 0 0 2 4 4, 1 1 1"/></IndexedTriangleSet></Shape>`;
  expect(sphereAround(x3d)).toEqual({ center: [1, 2, 2], radius: 3 });
  expect(sphereAround("<Scene/>")).toBeNull();
});
