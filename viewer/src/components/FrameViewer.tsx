import { type CSSProperties, type KeyboardEvent, useRef, useState } from "react";
import { useResource } from "../hooks";
import type { Frame } from "../imaging/frames";
import type { GestureTarget } from "../imaging/gestures";
import { type Segmentation, loadOverlay } from "../imaging/segmentation";
import type { View } from "../imaging/viewport";
import { type Window, isGreyscale } from "../imaging/window";
import { Edges } from "./Edges";
import { Notice } from "./Notice";
import { SegmentList } from "./SegmentList";
import { ViewerTools } from "./ViewerTools";
import { readoutOf, useAutomaticWindow, useCine, useFrames, useStage } from "./frame-hooks";

interface Props {
  study: string;
  series: string;
  modality: string;
  frames: readonly Frame[];
  segmentation: Segmentation | null;
}

const NONE: ReadonlySet<number> = new Set();
/** Shown until the first picture says which window suits it. */
const ANY_WINDOW: Window = { center: 128, width: 256 };

/** The slices or frames of one series: scrolled, windowed, zoomed, with a segmentation above. */
export function FrameViewer({ study, series, modality, frames, segmentation }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const readout = useRef<HTMLOutputElement>(null);
  const [index, setIndex] = useState(Math.floor(frames.length / 2));
  const [chosen, setChosen] = useState<Window | null>(null);
  const [inverted, setInverted] = useState(false);
  const [playing, setPlaying] = useState(false);
  const [hiddenSegments, setHiddenSegments] = useState(NONE);
  const { source, loaded, error } = useFrames(study, series, frames, index);
  const overlay = useOverlay(segmentation, frames);
  useCine(playing, source, frames.length, setIndex);

  const frame = frames[index] as Frame;
  const picture = source?.get(index);
  const greyscale = isGreyscale(frame.format);
  const automatic = useAutomaticWindow(frames, source);
  const window = chosen ?? frame.window ?? automatic ?? ANY_WINDOW;
  const view: View | null = picture
    ? { frame, index, picture, window, inverted, overlay: overlay.data, hiddenSegments }
    : null;

  const scroll = (by: number) => setIndex((now) => Math.min(Math.max(now + by, 0), frames.length - 1));
  const gestures: GestureTarget = {
    scroll,
    canWindow: () => greyscale,
    adjustWindow: (dx, dy) => {
      const speed = Math.max(window.width / 400, 0.25);
      setChosen({ center: window.center + dy * speed, width: Math.max(window.width + dx * speed, 1) });
    },
    hover: (at) => {
      const pixel = at && viewport.current?.pixelAt(at);
      if (readout.current) readout.current.value = view && pixel ? readoutOf(view, pixel, modality) : "";
    },
  };
  const viewport = useStage(canvas, view, gestures);

  const reset = () => {
    setChosen(null);
    setInverted(false);
    viewport.current?.reset();
  };
  const invert = () => setInverted(!inverted);
  const play = () => setPlaying(!playing && frames.length > 1);
  const onKeyDown = (event: KeyboardEvent) => {
    const step = stepOf(event.key, frames.length);
    const action = { i: invert, r: reset, " ": play }[event.key];
    if (step === undefined && !action) return;
    event.preventDefault();
    if (step === undefined) action?.();
    else scroll(step);
  };

  const noun = frame.position ? "Slice" : "Frame";
  return (
    <div className="viewer">
      <ViewerTools
        modality={modality}
        greyscale={greyscale}
        chosen={chosen}
        inverted={inverted}
        playing={playing}
        cine={frames.length > 1 && !frame.position}
        onWindow={setChosen}
        onInvert={invert}
        onPlay={play}
        onReset={reset}
      />
      <div className="stage" data-state={picture ? "ready" : "loading"}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="img"
          aria-label={`${modality} image, ${noun.toLowerCase()} ${index + 1} of ${frames.length}. Arrow keys change the ${noun.toLowerCase()}.`}
          onKeyDown={onKeyDown}
        />
        <Edges orientation={frame.orientation} />
        <div className="stage-facts">
          <span>{`${noun} ${index + 1}/${frames.length}`}</span>
          {greyscale && <span>{`W ${Math.round(window.width)} L ${Math.round(window.center)}`}</span>}
        </div>
        <output className="stage-readout" ref={readout} />
        {segmentation && overlay.data && (
          <SegmentList overlay={overlay.data} hidden={hiddenSegments} onChange={setHiddenSegments} />
        )}
        {error && !picture && <Notice error={error} retry={() => source?.focus(index)} />}
        {overlay.error && <Notice error={overlay.error} retry={overlay.reload} />}
      </div>
      {frames.length > 1 && (
        <label className="slices">
          <span className="hidden">{noun}</span>
          <input
            type="range"
            min={1}
            max={frames.length}
            value={index + 1}
            style={{ "--loaded": `${loaded * 100}%` } as CSSProperties}
            onChange={(event) => setIndex(event.currentTarget.valueAsNumber - 1)}
          />
        </label>
      )}
    </div>
  );
}

function useOverlay(segmentation: Segmentation | null, frames: readonly Frame[]) {
  return useResource(
    (signal) => (segmentation ? loadOverlay(segmentation, frames, signal) : Promise.resolve(null)),
    [segmentation?.instance, frames],
  );
}

function stepOf(key: string, length: number): number | undefined {
  return {
    ArrowDown: 1,
    ArrowRight: 1,
    ArrowUp: -1,
    ArrowLeft: -1,
    PageDown: 10,
    PageUp: -10,
    Home: -length,
    End: length,
  }[key];
}
