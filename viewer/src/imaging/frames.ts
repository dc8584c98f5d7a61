/** The frames of a series in the order in which people scroll them, from the series' metadata. */

import { type Dataset, item, items, number, numbers, text } from "../dicom";
import { type Vector, cross, dot, vector } from "./geometry";
import type { Window } from "./window";

export interface PixelFormat {
  bitsAllocated: number;
  bitsStored: number;
  signed: boolean;
  samples: number;
  photometric: string;
  /** Shades are looked up in a table of the image (PS3.3 C.11.1, C.11.2): left to the server. */
  lookedUp: boolean;
}

export interface Frame {
  instance: string;
  /** Counted from 1 within its instance, as WADO-RS does. */
  number: number;
  rows: number;
  columns: number;
  format: PixelFormat;
  /** Millimetres between rows, and between columns. */
  spacing: readonly [number, number] | null;
  position: Vector | null;
  orientation: readonly number[];
  slope: number;
  intercept: number;
  window: Window | null;
  order: number;
}

/** Cosine between two slice normals from which on slices count as parallel. */
const PARALLEL = 0.99;

export function framesOf(metadata: readonly Dataset[]): Frame[] {
  const frames = metadata.flatMap((dataset, index) =>
    number(dataset, "Rows") ? framesOfInstance(dataset, index) : [],
  );
  return sorted(frames);
}

function framesOfInstance(dataset: Dataset, index: number): Frame[] {
  const shared = item(dataset, "SharedFunctionalGroupsSequence");
  const perFrame = items(dataset, "PerFrameFunctionalGroupsSequence");
  const length = number(dataset, "NumberOfFrames") ?? 1;
  const format = formatOf(dataset);
  return Array.from({ length }, (_, at) => {
    const own = perFrame[at];
    const group = (keyword: Parameters<typeof item>[1]) => item(own, keyword) ?? item(shared, keyword) ?? dataset;
    const measures = group("PixelMeasuresSequence");
    const transformation = group("PixelValueTransformationSequence");
    return {
      instance: text(dataset, "SOPInstanceUID"),
      number: at + 1,
      rows: number(dataset, "Rows") ?? 0,
      columns: number(dataset, "Columns") ?? 0,
      format,
      spacing: spacingOf(measures),
      position: vector(numbers(group("PlanePositionSequence"), "ImagePositionPatient")),
      orientation: numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient"),
      slope: number(transformation, "RescaleSlope") ?? 1,
      intercept: number(transformation, "RescaleIntercept") ?? 0,
      window: windowOf(group("FrameVOILUTSequence")),
      order: (number(dataset, "InstanceNumber") ?? index) * 1e5 + at,
    };
  });
}

function formatOf(dataset: Dataset): PixelFormat {
  const bitsAllocated = number(dataset, "BitsAllocated") ?? 16;
  return {
    bitsAllocated,
    bitsStored: number(dataset, "BitsStored") ?? bitsAllocated,
    signed: number(dataset, "PixelRepresentation") === 1,
    samples: number(dataset, "SamplesPerPixel") ?? 1,
    photometric: text(dataset, "PhotometricInterpretation"),
    lookedUp:
      items(dataset, "ModalityLUTSequence").length > 0 ||
      (!windowOf(dataset) && items(dataset, "VOILUTSequence").length > 0),
  };
}

function spacingOf(dataset: Dataset): readonly [number, number] | null {
  const given = numbers(dataset, "PixelSpacing");
  const [row, column] = given.length === 2 ? given : numbers(dataset, "ImagerPixelSpacing");
  return row && column ? [row, column] : null;
}

function windowOf(dataset: Dataset): Window | null {
  const center = number(dataset, "WindowCenter");
  const width = number(dataset, "WindowWidth");
  return center === undefined || !width ? null : { center, width };
}

/** Parallel slices by position, else by InstanceNumber. Axial slices run from the head down, as radiologists read them. */
function sorted(frames: Frame[]): Frame[] {
  const normal = commonNormal(frames);
  if (!normal) return frames.toSorted((a, b) => a.order - b.order);
  const axial = Math.abs(normal[2]) > Math.max(Math.abs(normal[0]), Math.abs(normal[1]));
  const main = normal.reduce((best, cosine) => (Math.abs(cosine) > Math.abs(best) ? cosine : best), 0);
  const direction = (axial ? -1 : 1) * Math.sign(main);
  const depth = (frame: Frame) => (frame.position ? direction * dot(frame.position, normal) : 0);
  return frames.toSorted((a, b) => depth(a) - depth(b) || a.order - b.order);
}

export function normalOf(frame: Frame): Vector | null {
  const row = vector(frame.orientation);
  const column = vector(frame.orientation, 3);
  return row && column ? cross(row, column) : null;
}

function commonNormal(frames: readonly Frame[]): Vector | null {
  const first = frames[0] && normalOf(frames[0]);
  if (!first) return null;
  const parallel = frames.every((frame) => {
    const normal = normalOf(frame);
    return frame.position && normal && dot(normal, first) > PARALLEL;
  });
  return parallel ? first : null;
}
