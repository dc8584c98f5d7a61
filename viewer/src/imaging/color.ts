/** Colours of segments: DICOM names them in CIELab, scaled to 16 bits (PS3.3 C.10.7.1.1). */

export type Rgb = readonly [number, number, number];

/** For segments without a colour: distinct on grey, also for most colour-blind readers (after Okabe and Ito). */
const FALLBACK: readonly Rgb[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [213, 94, 0],
  [204, 121, 167],
];

/** D50, the white of the profile connection space. */
const WHITE: Rgb = [0.9642, 1, 0.8249];

const XYZ_TO_LINEAR_SRGB: readonly Rgb[] = [
  [3.1339, -1.6169, -0.4906],
  [-0.9788, 1.9161, 0.0335],
  [0.0719, -0.229, 1.4052],
];

export function segmentColor(cielab: readonly number[], segment: number): Rgb {
  const [l, a, b] = cielab;
  if (l === undefined || a === undefined || b === undefined) return FALLBACK[(segment - 1) % FALLBACK.length] as Rgb;
  return labToRgb((l / 65535) * 100, (a / 65535) * 255 - 128, (b / 65535) * 255 - 128);
}

function labToRgb(l: number, a: number, b: number): Rgb {
  const y = (l + 16) / 116;
  const xyz = [y + a / 500, y, y - b / 200].map(
    (t, axis) => (t > 6 / 29 ? t ** 3 : (t - 4 / 29) * 3 * (6 / 29) ** 2) * (WHITE[axis] as number),
  );
  const [red, green, blue] = XYZ_TO_LINEAR_SRGB.map((row) =>
    gamma(row.reduce((sum, factor, axis) => sum + factor * (xyz[axis] as number), 0)),
  );
  return [red as number, green as number, blue as number];
}

function gamma(linear: number): number {
  const bounded = Math.min(Math.max(linear, 0), 1);
  return Math.round(255 * (bounded <= 0.0031308 ? 12.92 * bounded : 1.055 * bounded ** (1 / 2.4) - 0.055));
}
