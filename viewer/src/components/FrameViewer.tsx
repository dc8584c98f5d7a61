import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { asApiError, useResource } from "../hooks";
import type { ApiError } from "../api";
import type { Frame } from "../imaging/frames";
import { edgesOf } from "../imaging/geometry";
import { listen } from "../imaging/gestures";
import { type Segmentation, loadOverlay } from "../imaging/segmentation";
import { FrameSource } from "../imaging/source";
import { type Point, Viewport } from "../imaging/viewport";
import { type Window, isGreyscale, windowFor } from "../imaging/window";
import { Notice } from "./Notice";
import { SegmentList } from "./SegmentList";
import { ViewerTools } from "./ViewerTools";

interface Props {
  study: string;
  series: string;
  modality: string;
  frames: readonly Frame[];
  segmentation: Segmentation | null;
}

const CINE_INTERVAL_MS = 66;
const NONE: ReadonlySet<number> = new Set();

/** The slices or frames of one series: scrolled, windowed, zoomed, with a segmentation above. */
export function FrameViewer({ study, series, modality, frames, segmentation }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const readout = useRef<HTMLOutputElement>(null);
  const viewport = useRef<Viewport | null>(null);
  const [index, setIndex] = useState(Math.floor(frames.length / 2));
  const [chosen, setChosen] = useState<Window | null>(null);
  const [inverted, setInverted] = useState(false);
  const [playing, setPlaying] = useState(false);
  const [hidden, setHidden] = useState(NONE);
  const { source, loaded, error } = useFrames(study, series, frames, index);
  const overlay = useResource(
    (signal) => (segmentation ? loadOverlay(segmentation, frames, signal) : Promise.resolve(null)),
    [segmentation?.instance, frames],
  );

  const frame = frames[index] as Frame;
  const picture = source?.get(index);
  const greyscale = isGreyscale(frame.format);
  const automatic = useAutomaticWindow(frames, source);
  const window = chosen ?? frame.window ?? automatic ?? { center: 128, width: 256 };
  const scroll = useCallback((by: number) => setIndex((now) => Math.min(Math.max(now + by, 0), frames.length - 1)), [frames]);

  // What the gestures see is what was drawn last.
  const latest = useRef({ window, greyscale, frame, index, source });
  latest.current = { window, greyscale, frame, index, source };

  useEffect(() => {
    const element = canvas.current as HTMLCanvasElement;
    const control = new AbortController();
    const view = new Viewport(element);
    viewport.current = view;
    const hover = (at: Point | null) => {
      if (readout.current) readout.current.value = at ? valueAt(view, at) : "";
    };
    const valueAt = (shown: Viewport, at: Point): string => {
      const { frame, index, source, greyscale } = latest.current;
      const pixel = shown.pixelAt(at);
      const stored = source?.get(index);
      if (!pixel || stored?.kind !== "stored" || !greyscale) return "";
      const value = (stored.values[pixel.y * frame.columns + pixel.x] ?? 0) * frame.slope + frame.intercept;
      return `${Number(value.toFixed(1))}${modality === "CT" ? " HU" : ""} at ${pixel.x}, ${pixel.y}`;
    };
    const adjustWindow = (dx: number, dy: number) => {
      const { center, width } = latest.current.window;
      const speed = Math.max(width / 400, 0.25);
      setChosen({ center: center + dy * speed, width: Math.max(width + dx * speed, 1) });
    };
    listen(element, view, { scroll, adjustWindow, hover, canWindow: () => latest.current.greyscale }, control.signal);
    return () => {
      control.abort();
      view.close();
    };
  }, [scroll, modality]);

  useEffect(() => {
    if (!picture) return;
    viewport.current?.show({ frame, index, picture, window, inverted, overlay: overlay.data, hiddenSegments: hidden });
  });

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => setIndex((now) => (source?.get((now + 1) % frames.length) ? (now + 1) % frames.length : now)), CINE_INTERVAL_MS);
    return () => clearInterval(timer);
  }, [playing, source, frames]);

  const reset = () => {
    setChosen(null);
    setInverted(false);
    viewport.current?.reset();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -frames.length, End: frames.length }[event.key];
    if (step !== undefined) scroll(step);
    else if (event.key === "i") setInverted((before) => !before);
    else if (event.key === "r") reset();
    else if (event.key === " " && frames.length > 1) setPlaying((before) => !before);
    else return;
    event.preventDefault();
  };
  const edges = useMemo(() => edgesOf(frame.orientation), [frame]);
  const noun = frame.position ? "Slice" : "Frame";

  return (
    <div class="viewer">
      <ViewerTools
        modality={modality}
        greyscale={greyscale}
        window={window}
        chosen={chosen}
        inverted={inverted}
        playing={playing}
        cine={frames.length > 1 && !frame.position}
        onWindow={setChosen}
        onInvert={() => setInverted(!inverted)}
        onPlay={() => setPlaying(!playing)}
        onReset={reset}
      />
      <div class="stage" data-state={picture ? "ready" : "loading"}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="img"
          aria-label={`${modality} image, ${noun.toLowerCase()} ${index + 1} of ${frames.length}. Arrow keys change the ${noun.toLowerCase()}.`}
          onKeyDown={onKeyDown}
        />
        {edges && (
          <div class="edges" aria-hidden="true">
            <b class="edge-left">{edges.left}</b>
            <b class="edge-right">{edges.right}</b>
            <b class="edge-top">{edges.top}</b>
            <b class="edge-bottom">{edges.bottom}</b>
          </div>
        )}
        <div class="stage-facts">
          <span>
            {noun} {index + 1}/{frames.length}
          </span>
          {greyscale && (
            <span>
              W {Math.round(window.width)} L {Math.round(window.center)}
            </span>
          )}
        </div>
        <output class="stage-readout" ref={readout} />
        {segmentation && overlay.data && <SegmentList overlay={overlay.data} hidden={hidden} onChange={setHidden} />}
        {error && !picture && <Notice error={error} retry={() => source?.focus(index)} />}
        {overlay.error && <Notice error={overlay.error} retry={overlay.reload} />}
      </div>
      {frames.length > 1 && (
        <label class="slices">
          <span class="hidden">{noun}</span>
          <input type="range" min={1} max={frames.length} value={index + 1} style={`--loaded:${loaded * 100}%`} onInput={(event) => setIndex(event.currentTarget.valueAsNumber - 1)} />
        </label>
      )}
    </div>
  );
}

/** The pixels of a series, loaded around the frame that is looked at; the component is drawn again as they come. */
function useFrames(study: string, series: string, frames: readonly Frame[], index: number) {
  const [source, setSource] = useState<FrameSource | null>(null);
  const [loaded, setLoaded] = useState(0);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    const made: FrameSource = new FrameSource(study, series, frames, () => setLoaded(made.loaded), (reason) => setError(asApiError(reason)));
    setSource(made);
    return () => made.close();
  }, [study, series, frames]);
  useEffect(() => source?.focus(index), [source, index]);
  return { source, loaded, error };
}

/** For series without a window of their own: one that suits the first picture, and stays while scrolling. */
function useAutomaticWindow(frames: readonly Frame[], source: FrameSource | null): Window | null {
  const found = useRef<Window | null>(null);
  useEffect(() => {
    found.current = null;
  }, [source]);
  if (found.current || !source) return found.current;
  const index = frames.findIndex((_, at) => source.get(at));
  const picture = source.get(index);
  const frame = frames[index];
  if (picture?.kind === "stored" && frame) found.current = windowFor(picture.values, frame.slope, frame.intercept);
  return found.current;
}
