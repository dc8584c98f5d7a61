/** Grey values: stored pixels to a picture through rescale and window (PS3.3 C.11.2.1.2.1, the linear function). */

import type { PixelFormat } from "./frames";

export interface Window {
  center: number;
  width: number;
}

export interface Preset extends Window {
  name: string;
}

/** Usual reading windows for CT in Hounsfield units. */
export const CT_PRESETS: readonly Preset[] = [
  { name: "Soft tissue", center: 40, width: 400 },
  { name: "Lung", center: -600, width: 1500 },
  { name: "Bone", center: 480, width: 2500 },
  { name: "Brain", center: 40, width: 80 },
  { name: "Angio", center: 300, width: 600 },
];

export type Stored = Int8Array | Uint8Array | Int16Array | Uint16Array;

/** Whether this module can show the pixels; the server renders all others. */
export function isGreyscale(format: PixelFormat): boolean {
  return (
    !format.lookedUp &&
    format.samples === 1 &&
    /^MONOCHROME[12]$/.test(format.photometric) &&
    [8, 16].includes(format.bitsAllocated)
  );
}

/** Little-endian bytes as numbers. Bits above BitsStored may hold anything and are replaced by the sign or zero. */
export function storedValues(bytes: Uint8Array<ArrayBuffer>, format: PixelFormat): Stored {
  const { bitsAllocated, bitsStored, signed } = format;
  const size = bitsAllocated / 8;
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const Type = bitsAllocated === 8 ? (signed ? Int8Array : Uint8Array) : signed ? Int16Array : Uint16Array;
  const values = new Type(aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / size));
  const spare = bitsAllocated - bitsStored;
  if (spare === 0) return values;
  const shift = 32 - bitsStored;
  return signed ? values.map((value) => (value << shift) >> shift) : values.map((value) => (value << shift) >>> shift);
}

/**
 * The shade (0 to 255) of every possible stored value, indexed by its 16 bits.
 *
 * @param inverted shows low values bright; MONOCHROME1 images are inverted once more
 */
export function shades(
  window: Window,
  format: PixelFormat,
  slope: number,
  intercept: number,
  inverted: boolean,
): Uint8ClampedArray {
  const length = 2 ** format.bitsAllocated;
  const table = new Uint8ClampedArray(length);
  const width = Math.max(window.width, 1);
  const flip = inverted !== (format.photometric === "MONOCHROME1");
  for (let bits = 0; bits < length; bits += 1) {
    const value = format.signed && bits >= length / 2 ? bits - length : bits;
    const shade = ((value * slope + intercept - (window.center - 0.5)) / Math.max(width - 1, 1) + 0.5) * 255;
    table[bits] = flip ? 255 - shade : shade;
  }
  return table;
}

/** Writes a picture: one opaque grey pixel for each stored value. */
export function paint(values: Stored, table: Uint8ClampedArray, picture: ImageData): void {
  const pixels = new Uint32Array(picture.data.buffer);
  const mask = table.length - 1;
  const length = Math.min(pixels.length, values.length);
  for (let at = 0; at < length; at += 1) {
    const shade = table[(values[at] as number) & mask] as number;
    pixels[at] = 0xff000000 | (shade << 16) | (shade << 8) | shade;
  }
}

/** A window for pixels that come without one: from the 1st to the 99th percentile of the values. */
export function windowFor(values: Stored, slope: number, intercept: number): Window {
  const sample = values.filter((_, at) => at % 16 === 0).sort();
  const at = (share: number) => (sample[Math.floor(share * (sample.length - 1))] ?? 0) * slope + intercept;
  const [low, high] = [at(0.01), at(0.99)];
  return { center: (low + high) / 2, width: Math.max(Math.abs(high - low), 1) };
}
