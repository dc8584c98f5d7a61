/** DICOM segmentations as overlays: which segment covers which pixel of which frame of the series they refer to. */

import { framePixels, paths, seriesMetadata } from "../api";
import { type Dataset, item, items, number, numbers, text } from "../dicom";
import { type Rgb, segmentColor } from "./color";
import { type Frame, normalOf } from "./frames";
import { type Vector, dot, vector } from "./geometry";

export interface Segment {
  number: number;
  label: string;
  color: Rgb;
}

/** One frame of a segmentation: the mask of one segment, or a map of all segments' numbers. */
interface Layer {
  segment: number | null;
  pixels: Uint8Array | Uint16Array;
  packed: boolean;
}

interface SegmentationFrame {
  number: number;
  segment: number | null;
  sourceInstance: string;
  sourceFrame: number;
  position: Vector | null;
}

export interface Segmentation {
  study: string;
  series: string;
  instance: string;
  references: readonly string[];
  segments: readonly Segment[];
  rows: number;
  columns: number;
  bitsAllocated: number;
  /** FRACTIONAL segmentations hold a degree a pixel: half of it or more counts as covered. */
  threshold: number;
  frames: readonly SegmentationFrame[];
}

const FRAMES_PER_REQUEST = 32;
/** A segmentation's frame belongs to the slice whose plane is nearer than this. */
const SAME_PLANE_MM = 0.5;

/** Reads what the segmentations of a series cover; pixels are fetched by `loadOverlay` when they are shown. */
export async function readSegmentations(study: string, series: string, signal: AbortSignal): Promise<Segmentation[]> {
  const metadata = await seriesMetadata(study, series, signal);
  return metadata
    .filter((dataset) => items(dataset, "SegmentSequence").length > 0)
    .map((dataset) => segmentationOf(study, series, dataset));
}

export function segmentationOf(study: string, series: string, dataset: Dataset): Segmentation {
  const labelmap = text(dataset, "SegmentationType") === "LABELMAP";
  const shared = item(dataset, "SharedFunctionalGroupsSequence");
  const frames = items(dataset, "PerFrameFunctionalGroupsSequence").map((group, at): SegmentationFrame => {
    const source = item(
      item(group, "DerivationImageSequence") ?? item(shared, "DerivationImageSequence"),
      "SourceImageSequence",
    );
    const segment = item(group, "SegmentIdentificationSequence") ?? item(shared, "SegmentIdentificationSequence");
    return {
      number: at + 1,
      segment: labelmap ? null : (number(segment, "ReferencedSegmentNumber") ?? 1),
      sourceInstance: text(source, "ReferencedSOPInstanceUID"),
      sourceFrame: number(source, "ReferencedFrameNumber") ?? 1,
      position: vector(numbers(item(group, "PlanePositionSequence"), "ImagePositionPatient")),
    };
  });
  return {
    study,
    series,
    instance: text(dataset, "SOPInstanceUID"),
    references: items(dataset, "ReferencedSeriesSequence").map((reference) => text(reference, "SeriesInstanceUID")),
    segments: items(dataset, "SegmentSequence")
      .map(segmentOf)
      .filter((segment) => segment.number > 0),
    rows: number(dataset, "Rows") ?? 0,
    columns: number(dataset, "Columns") ?? 0,
    bitsAllocated: number(dataset, "BitsAllocated") ?? 1,
    threshold: text(dataset, "SegmentationType") === "FRACTIONAL" ? 128 : 1,
    frames,
  };
}

function segmentOf(dataset: Dataset): Segment {
  const segment = number(dataset, "SegmentNumber") ?? 0;
  const color = segmentColor(numbers(dataset, "RecommendedDisplayCIELabValue"), segment);
  return { number: segment, label: text(dataset, "SegmentLabel") || `Segment ${segment}`, color };
}

/** The segmentation's pixels, laid over the frames of the series that it was made from. */
export class Overlay {
  readonly #layers = new Map<number, Layer[]>();

  constructor(readonly segmentation: Segmentation) {}

  add(index: number, layer: Layer): void {
    this.#layers.set(index, [...(this.#layers.get(index) ?? []), layer]);
  }

  /** How many frames of the series have a part of the segmentation. */
  get extent(): number {
    return this.#layers.size;
  }

  /**
   * Colours the pixels that are covered, leaving those of the `hidden` segments: translucent inside, opaque along the
   * outline, so that a pale segment is seen on bright pixels, too.
   */
  paint(index: number, picture: ImageData, hidden: ReadonlySet<number>): void {
    const { segments, columns } = this.segmentation;
    const colors = new Map(
      segments.filter(({ number }) => !hidden.has(number)).map(({ number, color }) => [number, pixelOf(color)]),
    );
    const target = new Uint32Array(picture.data.buffer);
    for (const layer of this.#layers.get(index) ?? []) this.#paintLayer(layer, target, columns, colors);
  }

  #paintLayer(
    { segment, pixels, packed }: Layer,
    target: Uint32Array,
    columns: number,
    colors: ReadonlyMap<number, number>,
  ): void {
    if (segment !== null && !colors.has(segment)) return;
    const { threshold } = this.segmentation;
    const valueAt = (at: number): number =>
      packed ? ((pixels[at >> 3] as number) >> (at & 7)) & 1 : (pixels[at] as number);
    const segmentAt = (at: number): number => (segment === null ? valueAt(at) : valueAt(at) >= threshold ? segment : 0);
    for (let at = 0; at < target.length; at += 1) {
      const covered = segmentAt(at);
      const color = covered === 0 ? undefined : colors.get(covered);
      if (color === undefined) continue;
      const outline = [at - 1, at + 1, at - columns, at + columns].some((beside) => segmentAt(beside) !== covered);
      target[at] = (color | (outline ? OUTLINE : INSIDE)) >>> 0;
    }
  }
}

/** Opacity in the highest byte of a pixel. */
const OUTLINE = 0xff000000;
const INSIDE = 0x60000000;

const pixelOf = ([red, green, blue]: Rgb): number => (blue << 16) | (green << 8) | red;

/** Fetches the pixels of a segmentation and finds the frame of the series for each. */
export async function loadOverlay(
  segmentation: Segmentation,
  frames: readonly Frame[],
  signal: AbortSignal,
): Promise<Overlay> {
  const overlay = new Overlay(segmentation);
  const placed = segmentation.frames
    .map((frame) => ({ frame, index: indexOf(frame, frames) }))
    .filter(
      ({ index }) =>
        index >= 0 && frames[index]?.rows === segmentation.rows && frames[index]?.columns === segmentation.columns,
    );
  const instance = paths.instance(segmentation.study, segmentation.series, segmentation.instance);
  for (let from = 0; from < placed.length; from += FRAMES_PER_REQUEST) {
    const batch = placed.slice(from, from + FRAMES_PER_REQUEST);
    const parts = await framePixels(
      instance,
      batch.map(({ frame }) => frame.number),
      signal,
    );
    batch.forEach(({ frame, index }, at) => {
      const bytes = parts[at];
      if (bytes) overlay.add(index, layerOf(frame, bytes, segmentation));
    });
  }
  return overlay;
}

/** One bit a pixel comes packed, or as a byte a pixel where the server unpacked it. */
function layerOf(frame: SegmentationFrame, bytes: Uint8Array, { rows, columns, bitsAllocated }: Segmentation): Layer {
  const packed = bitsAllocated === 1 && bytes.length < rows * columns;
  const pixels = bitsAllocated === 16 ? new Uint16Array(bytes.slice().buffer) : bytes;
  return { segment: frame.segment, pixels, packed };
}

function indexOf(frame: SegmentationFrame, frames: readonly Frame[]): number {
  const named = frames.findIndex(
    ({ instance, number }) => instance === frame.sourceInstance && number === frame.sourceFrame,
  );
  if (named >= 0) return named;
  const { position } = frame;
  if (!position) return -1;
  return frames.findIndex((candidate) => {
    const normal = normalOf(candidate);
    return (
      candidate.position && normal && Math.abs(dot(candidate.position, normal) - dot(position, normal)) < SAME_PLANE_MM
    );
  });
}
