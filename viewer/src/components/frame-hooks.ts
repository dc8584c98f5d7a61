/** The moving parts of the frame viewer: loading, automatic window, cine, and the canvas with its gestures. */

import { type RefObject, useEffect, useEffectEvent, useRef, useState } from "react";
import type { ApiError } from "../api";
import { asApiError } from "../hooks";
import type { Frame } from "../imaging/frames";
import { type GestureTarget, listen } from "../imaging/gestures";
import { FrameSource } from "../imaging/source";
import { type Point, type View, Viewport } from "../imaging/viewport";
import { type Window, windowFor } from "../imaging/window";

const CINE_INTERVAL_MS = 66;

/** The pixels of a series, loaded around the frame that is looked at; the component is drawn again as they come. */
export function useFrames(study: string, series: string, frames: readonly Frame[], index: number) {
  const [source, setSource] = useState<FrameSource | null>(null);
  const [loaded, setLoaded] = useState(0);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    const made: FrameSource = new FrameSource(study, series, frames, {
      onChange: () => setLoaded(made.loaded),
      onError: (reason) => setError(asApiError(reason)),
    });
    setSource(made);
    return () => made.close();
  }, [study, series, frames]);
  useEffect(() => source?.focus(index), [source, index]);
  return { source, loaded, error };
}

/** For series without a window of their own: one that suits the first picture, and stays while scrolling. */
export function useAutomaticWindow(frames: readonly Frame[], source: FrameSource | null): Window | null {
  const [found, setFound] = useState<{ source: FrameSource; window: Window } | null>(null);
  if (found && found.source === source) return found.window;
  const index = frames.findIndex((_, at) => source?.get(at));
  const picture = source?.get(index);
  const frame = frames[index];
  if (!source || !frame || picture?.kind !== "stored") return null;
  const window = windowFor(picture.values, frame.slope, frame.intercept);
  setFound({ source, window });
  return window;
}

/** Plays the frames in a circle, waiting for those that are not there yet. */
export function useCine(
  playing: boolean,
  source: FrameSource | null,
  length: number,
  setIndex: (next: (now: number) => number) => void,
): void {
  useEffect(() => {
    if (!playing) return;
    const advance = (now: number) => (source?.get((now + 1) % length) ? (now + 1) % length : now);
    const timer = setInterval(() => setIndex(advance), CINE_INTERVAL_MS);
    return () => clearInterval(timer);
  }, [playing, source, length]);
}

/**
 * Draws `view` on the canvas after each change, and passes on what mouse and fingers do there.
 *
 * @returns the viewport, to reset it
 */
export function useStage(
  canvas: RefObject<HTMLCanvasElement | null>,
  view: View | null,
  target: GestureTarget,
): RefObject<Viewport | null> {
  const viewport = useRef<Viewport | null>(null);
  const scroll = useEffectEvent(target.scroll);
  const adjustWindow = useEffectEvent(target.adjustWindow);
  const canWindow = useEffectEvent(target.canWindow);
  const hover = useEffectEvent(target.hover);
  useEffect(() => {
    const element = canvas.current as HTMLCanvasElement;
    const control = new AbortController();
    viewport.current = new Viewport(element);
    listen(element, viewport.current, { scroll, adjustWindow, canWindow, hover }, control.signal);
    return () => {
      control.abort();
      viewport.current?.close();
    };
  }, []);
  useEffect(() => {
    if (view) viewport.current?.show(view);
  });
  return viewport;
}

/** The value under the mouse in the unit of the modality, and where it is. */
export function readoutOf(view: View, pixel: Point, modality: string): string {
  const { frame, picture } = view;
  if (picture.kind !== "stored") return "";
  const value = (picture.values[pixel.y * frame.columns + pixel.x] ?? 0) * frame.slope + frame.intercept;
  return `${Number(value.toFixed(1))}${modality === "CT" ? " HU" : ""} at ${pixel.x}, ${pixel.y}`;
}
