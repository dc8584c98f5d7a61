/** Draws one frame on a canvas: grey values through the window, segments above, zoomed and moved, at screen resolution. */

import type { Frame } from "./frames";
import type { Overlay } from "./segmentation";
import type { Picture } from "./source";
import { type Window, paint, shades } from "./window";

export interface View {
  frame: Frame;
  index: number;
  picture: Picture;
  window: Window;
  inverted: boolean;
  overlay: Overlay | null;
  hiddenSegments: ReadonlySet<number>;
}

export interface Point {
  x: number;
  y: number;
}

const MAX_ZOOM = 16;
const MIN_ZOOM = 0.5;
const SCALE_MM = [1, 2, 5, 10, 20, 50, 100, 200];

export class Viewport {
  #view: View | null = null;
  #zoom = 1;
  #pan: Point = { x: 0, y: 0 };
  #scheduled = 0;
  #shades: { key: string; table: Uint8ClampedArray } | null = null;
  readonly #image = new OffscreenCanvas(1, 1);
  readonly #mask = new OffscreenCanvas(1, 1);
  readonly #resize = new ResizeObserver(() => this.#schedule());

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.#resize.observe(canvas);
  }

  close(): void {
    this.#resize.disconnect();
    cancelAnimationFrame(this.#scheduled);
  }

  show(view: View): void {
    this.#view = view;
    this.#schedule();
  }

  reset(): void {
    this.#zoom = 1;
    this.#pan = { x: 0, y: 0 };
    this.#schedule();
  }

  get zoom(): number {
    return this.#zoom;
  }

  move(dx: number, dy: number): void {
    this.#pan = { x: this.#pan.x + dx, y: this.#pan.y + dy };
    this.#schedule();
  }

  /** Zooms so that what lies under `at` (CSS pixels from the canvas's corner) stays there. */
  zoomAt(factor: number, at: Point): void {
    const zoom = Math.min(Math.max(this.#zoom * factor, MIN_ZOOM), MAX_ZOOM);
    const { x, y } = this.#middle();
    const ratio = zoom / this.#zoom;
    this.#pan = { x: at.x - x - (at.x - x - this.#pan.x) * ratio, y: at.y - y - (at.y - y - this.#pan.y) * ratio };
    this.#zoom = zoom;
    this.#schedule();
  }

  /** Column and row of the image under a point of the canvas, or null outside. */
  pixelAt(at: Point): Point | null {
    if (!this.#view) return null;
    const { frame } = this.#view;
    const { scaleX, scaleY, left, top } = this.#placement(frame);
    const x = Math.floor((at.x - left) / scaleX);
    const y = Math.floor((at.y - top) / scaleY);
    return x >= 0 && y >= 0 && x < frame.columns && y < frame.rows ? { x, y } : null;
  }

  #schedule(): void {
    cancelAnimationFrame(this.#scheduled);
    this.#scheduled = requestAnimationFrame(() => this.#draw());
  }

  #middle(): Point {
    return { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 };
  }

  /** Where the frame lies on the canvas, in CSS pixels; pixels that are not square are stretched to their true shape. */
  #placement(frame: Frame) {
    const aspect = frame.spacing ? frame.spacing[0] / frame.spacing[1] : 1;
    const fit = Math.min(this.canvas.clientWidth / frame.columns, this.canvas.clientHeight / (frame.rows * aspect));
    const scaleX = fit * this.#zoom;
    const scaleY = scaleX * aspect;
    const middle = this.#middle();
    return {
      scaleX,
      scaleY,
      left: middle.x + this.#pan.x - (frame.columns * scaleX) / 2,
      top: middle.y + this.#pan.y - (frame.rows * scaleY) / 2,
    };
  }

  #draw(): void {
    const context = this.canvas.getContext("2d", { alpha: false });
    if (!context || !this.#view) return;
    const density = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * density);
    this.canvas.height = Math.round(this.canvas.clientHeight * density);
    const { frame, overlay } = this.#view;
    const { scaleX, scaleY, left, top } = this.#placement(frame);
    const place = [
      left * density,
      top * density,
      frame.columns * scaleX * density,
      frame.rows * scaleY * density,
    ] as const;
    context.imageSmoothingQuality = "high";
    // From four screen pixels a pixel on, the pixels themselves are what one zoomed in for.
    context.imageSmoothingEnabled = scaleX * density < 4;
    context.drawImage(this.#imageOf(this.#view), ...place);
    if (overlay) context.drawImage(this.#maskOf(this.#view, overlay), ...place);
    context.scale(density, density);
    if (frame.spacing && frame.position) this.#drawScale(context, scaleX / frame.spacing[1]);
  }

  /** A bar of a round length. Projections get none: how large things were depends on how far they were from the detector. */
  #drawScale(context: CanvasRenderingContext2D, pixelsPerMm: number): void {
    const length = SCALE_MM.findLast((candidate) => candidate * pixelsPerMm <= this.canvas.clientWidth / 4);
    if (!length) return;
    const right = this.canvas.clientWidth - 14;
    const left = right - length * pixelsPerMm;
    const bottom = this.canvas.clientHeight - 38;
    context.strokeStyle = context.fillStyle = "#dbe5eb";
    context.shadowColor = "#000";
    context.shadowBlur = 3;
    context.lineWidth = 1.5;
    context.stroke(new Path2D(`M${left} ${bottom - 5}V${bottom}H${right}V${bottom - 5}`));
    context.font = `12px ${getComputedStyle(this.canvas).fontFamily}`;
    context.textAlign = "right";
    context.fillText(length < 10 ? `${length} mm` : `${length / 10} cm`, right, bottom - 10);
    context.shadowBlur = 0;
  }

  #imageOf(view: View): CanvasImageSource {
    const { frame, picture } = view;
    if (picture.kind === "rendered") return picture.bitmap;
    const pixels = this.#blank(this.#image, frame);
    paint(picture.values, this.#shadesOf(view), pixels);
    this.#image.getContext("2d")?.putImageData(pixels, 0, 0);
    return this.#image;
  }

  #maskOf({ frame, index, hiddenSegments }: View, overlay: Overlay): CanvasImageSource {
    const pixels = this.#blank(this.#mask, frame);
    overlay.paint(index, pixels, hiddenSegments);
    this.#mask.getContext("2d")?.putImageData(pixels, 0, 0);
    return this.#mask;
  }

  #blank(canvas: OffscreenCanvas, { columns, rows }: Frame): ImageData {
    if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
    return new ImageData(columns, rows);
  }

  #shadesOf({ frame, window, inverted }: View): Uint8ClampedArray {
    const { format, slope, intercept } = frame;
    const key = JSON.stringify([window, format, slope, intercept, inverted]);
    if (this.#shades?.key !== key) this.#shades = { key, table: shades(window, format, slope, intercept, inverted) };
    return this.#shades.table;
  }
}
