/** The six directions from which a patient is looked at, and rotations between them and the screen. */

import { type Vector, cross } from "./geometry";

export interface Direction {
  letter: string;
  name: string;
  /** From the patient towards the viewer. */
  normal: Vector;
  /** What points up on the screen. */
  up: Vector;
}

export const DIRECTIONS: readonly Direction[] = [
  { letter: "A", name: "Anterior", normal: [0, -1, 0], up: [0, 0, 1] },
  { letter: "P", name: "Posterior", normal: [0, 1, 0], up: [0, 0, 1] },
  { letter: "L", name: "Left", normal: [1, 0, 0], up: [0, 0, 1] },
  { letter: "R", name: "Right", normal: [-1, 0, 0], up: [0, 0, 1] },
  { letter: "H", name: "Head", normal: [0, 0, 1], up: [0, -1, 0] },
  { letter: "F", name: "Feet", normal: [0, 0, -1], up: [0, -1, 0] },
];

export interface Rotation {
  axis: Vector;
  angle: number;
}

/** The X3D orientation of a camera that looks from this direction: it turns x to the right, y up, z to the viewer. */
export function cameraRotation({ normal, up }: Direction): Rotation {
  const right = cross(up, normal);
  const trace = right[0] + up[1] + normal[2];
  const angle = Math.acos(Math.min(Math.max((trace - 1) / 2, -1), 1));
  if (angle < 1e-6) return { axis: [0, 0, 1], angle: 0 };
  if (Math.PI - angle > 1e-6) {
    const scale = 2 * Math.sin(angle);
    return { axis: [(up[2] - normal[1]) / scale, (normal[0] - right[2]) / scale, (right[1] - up[0]) / scale], angle };
  }
  // Half a turn: (matrix + identity) / 2 is the axis times itself, and its longest column is parallel to the axis.
  const columns: readonly Vector[] = [
    [right[0] + 1, right[1], right[2]],
    [up[0], up[1] + 1, up[2]],
    [normal[0], normal[1], normal[2] + 1],
  ];
  const longest = columns.reduce((a, b) => (Math.hypot(...a) >= Math.hypot(...b) ? a : b));
  const length = Math.hypot(...longest);
  return { axis: [longest[0] / length, longest[1] / length, longest[2] / length], angle };
}

/** Screen coordinates of CSS grow downwards, those of the patient and the camera upwards. */
const flip = ([x, y, z]: Vector): Vector => [x, -y, z];

/** The CSS transform that puts a face of the orientation cube in its place. */
export function faceTransform({ normal, up }: Direction, half_px: number): string {
  const right = flip(cross(up, normal));
  const outwards = flip(normal);
  const [ux, uy, uz] = flip(up);
  const columns = [
    [...right, 0],
    [-ux, -uy, -uz, 0],
    [...outwards, 0],
    [...outwards.map((component) => component * half_px), 1],
  ];
  return `matrix3d(${columns.flat().join(",")})`;
}

/** The CSS transform that shows the cube as a camera of this orientation sees it. */
export function cubeTransform({ axis: [x, y, z], angle }: Rotation): string {
  return `rotate3d(${x},${-y},${z},${angle}rad)`;
}
