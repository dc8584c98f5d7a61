/** Loads the pixels of a series: what is looked at first, its neighbours ahead, within a bound of memory. */

import { framePixels, paths, renderedFrame } from "../api";
import type { Frame } from "./frames";
import { type Stored, isGreyscale, storedValues } from "./window";

/** Grey pixels that the page windows itself, or a picture that the server rendered. */
export type Picture = { kind: "stored"; values: Stored } | { kind: "rendered"; bitmap: ImageBitmap };

const PARALLEL_REQUESTS = 4;
const MAX_CACHED_BYTES = 384 << 20;

export class FrameSource {
  readonly #pictures = new Map<number, Picture>();
  readonly #loading = new Set<number>();
  readonly #failed = new Set<number>();
  readonly #stop = new AbortController();
  readonly #capacity: number;
  #center = 0;

  constructor(
    private readonly study: string,
    private readonly series: string,
    readonly frames: readonly Frame[],
    private readonly report: { onChange: () => void; onError: (error: unknown) => void },
  ) {
    const largest = Math.max(
      ...frames.map((frame) => frame.rows * frame.columns * (isGreyscale(frame.format) ? 2 : 4)),
      1,
    );
    this.#capacity = Math.max(8, Math.min(frames.length, Math.floor(MAX_CACHED_BYTES / largest)));
  }

  get(index: number): Picture | undefined {
    return this.#pictures.get(index);
  }

  /** How much of the series is in memory, from 0 to 1. */
  get loaded(): number {
    return this.#pictures.size / this.frames.length;
  }

  /** Says which frame is looked at; what is loaded next is what lies nearest to it. */
  focus(index: number): void {
    this.#center = index;
    this.#failed.delete(index);
    this.#fill();
  }

  close(): void {
    this.#stop.abort();
    for (const picture of this.#pictures.values()) release(picture);
    this.#pictures.clear();
  }

  #fill(): void {
    while (!this.#stop.signal.aborted && this.#loading.size < PARALLEL_REQUESTS) {
      const next = this.#nearestMissing();
      if (next === null) return;
      void this.#load(next);
    }
  }

  #nearestMissing(): number | null {
    const wanted = (index: number) =>
      index >= 0 &&
      index < this.frames.length &&
      !this.#pictures.has(index) &&
      !this.#loading.has(index) &&
      !this.#failed.has(index);
    for (let distance = 0; distance <= this.#capacity / 2; distance += 1) {
      if (wanted(this.#center + distance)) return this.#center + distance;
      if (wanted(this.#center - distance)) return this.#center - distance;
    }
    return null;
  }

  async #load(index: number): Promise<void> {
    this.#loading.add(index);
    try {
      const picture = await this.#fetch(this.frames[index] as Frame);
      if (this.#stop.signal.aborted) return release(picture);
      this.#pictures.set(index, picture);
      this.#evict();
      this.report.onChange();
    } catch (error) {
      this.#failed.add(index);
      if (!this.#stop.signal.aborted) this.report.onError(error);
    } finally {
      this.#loading.delete(index);
      this.#fill();
    }
  }

  async #fetch(frame: Frame): Promise<Picture> {
    const instance = paths.instance(this.study, this.series, frame.instance);
    const { signal } = this.#stop;
    if (!isGreyscale(frame.format)) {
      return { kind: "rendered", bitmap: await createImageBitmap(await renderedFrame(instance, frame.number, signal)) };
    }
    const [bytes] = await framePixels(instance, [frame.number], signal);
    if (!bytes) throw new Error("The gateway sent a frame without pixels.");
    return { kind: "stored", values: storedValues(bytes, frame.format) };
  }

  #evict(): void {
    if (this.#pictures.size <= this.#capacity) return;
    const furthest = [...this.#pictures.keys()].reduce((a, b) => (this.#distance(a) >= this.#distance(b) ? a : b));
    release(this.#pictures.get(furthest));
    this.#pictures.delete(furthest);
  }

  #distance(index: number): number {
    return Math.abs(index - this.#center);
  }
}

function release(picture: Picture | undefined): void {
  if (picture?.kind === "rendered") picture.bitmap.close();
}
