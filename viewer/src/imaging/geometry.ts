/** Directions in the patient: DICOM's x grows to the Left, y to the Posterior, z to the Head (PS3.3 C.7.6.2.1.1). */

export type Vector = readonly [number, number, number];

const LETTERS = [
  ["L", "R"],
  ["P", "A"],
  ["H", "F"],
] as const;

/** A direction counts as oblique, and gets a second letter, from this cosine on (about 17 degrees). */
const OBLIQUE_COSINE = 0.3;

export const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

export const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

export function vector(components: readonly number[], from = 0): Vector | null {
  const [x, y, z] = components.slice(from, from + 3);
  return x === undefined || y === undefined || z === undefined ? null : [x, y, z];
}

/** Letters of the patient's direction along a unit vector, the strongest first, for example "PH". */
export function lettersOf(direction: Vector): string {
  return direction
    .map((cosine, axis) => ({ size: Math.abs(cosine), letter: LETTERS[axis]?.[cosine > 0 ? 0 : 1] ?? "" }))
    .filter(({ size }) => size >= OBLIQUE_COSINE)
    .sort((a, b) => b.size - a.size)
    .slice(0, 2)
    .map(({ letter }) => letter)
    .join("");
}

export interface Edges {
  left: string;
  right: string;
  top: string;
  bottom: string;
}

const opposite = ([x, y, z]: Vector): Vector => [-x, -y, -z];

/** Which part of the patient lies behind each edge of an image with this ImageOrientationPatient. */
export function edgesOf(orientation: readonly number[]): Edges | null {
  const row = vector(orientation);
  const column = vector(orientation, 3);
  if (!row || !column) return null;
  return {
    left: lettersOf(opposite(row)),
    right: lettersOf(row),
    top: lettersOf(opposite(column)),
    bottom: lettersOf(column),
  };
}
