/** How large a mesh is and where it lies, read from its X3D file: coordinates are in millimetres, and nothing moves them. */

import type { Vector } from "./geometry";

export interface Sphere {
  center: Vector;
  radius: number;
}

/** The sphere around the bounding box of all coordinates, or null where there are none. */
export function sphereAround(x3d: string): Sphere | null {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (const [, points = ""] of x3d.matchAll(/<Coordinate\b[^>]*?\bpoint=["']([^"']*)/g)) {
    let axis = 0;
    for (const [word] of points.matchAll(/[^\s,]+/g)) {
      const value = Number(word);
      low[axis] = Math.min(low[axis] as number, value);
      high[axis] = Math.max(high[axis] as number, value);
      axis = (axis + 1) % 3;
    }
  }
  const [x, y, z] = low.map((least, axis) => (least + (high[axis] as number)) / 2);
  const radius = Math.hypot(...high.map((most, axis) => most - (low[axis] as number))) / 2;
  return Number.isFinite(radius) && radius > 0 ? { center: [x as number, y as number, z as number], radius } : null;
}
