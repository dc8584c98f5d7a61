import { CT_PRESETS, type Window } from "../imaging/window";
import { Icon } from "./Icon";

interface Props {
  modality: string;
  greyscale: boolean;
  /** The window that the reader chose; null while the file's own is used. */
  chosen: Window | null;
  inverted: boolean;
  playing: boolean;
  cine: boolean;
  onWindow: (window: Window | null) => void;
  onInvert: () => void;
  onPlay: () => void;
  onReset: () => void;
}

export function ViewerTools({
  modality,
  greyscale,
  chosen,
  inverted,
  playing,
  cine,
  onWindow,
  onInvert,
  onPlay,
  onReset,
}: Props) {
  const presets = modality === "CT" ? CT_PRESETS : [];
  const isChosen = (window: Window) => chosen?.center === window.center && chosen.width === window.width;
  return (
    <div className="tools" role="toolbar" aria-label="Image">
      {greyscale && presets.length > 0 && (
        <div className="segmented" role="group" aria-label="Window">
          <button type="button" aria-pressed={chosen === null} onClick={() => onWindow(null)}>
            Default
          </button>
          {presets.map(({ name, center, width }) => (
            <button
              key={name}
              type="button"
              aria-pressed={isChosen({ center, width })}
              onClick={() => onWindow({ center, width })}
            >
              {name}
            </button>
          ))}
        </div>
      )}
      <span className="tools-gap" />
      {cine && (
        <button type="button" className="button button-quiet" aria-pressed={playing} onClick={onPlay}>
          <Icon name={playing ? "cancel" : "play"} />
          {playing ? "Stop" : "Play"}
        </button>
      )}
      {greyscale && (
        <button
          type="button"
          className="button button-quiet"
          aria-pressed={inverted}
          onClick={onInvert}
          title="Invert (I)"
        >
          <Icon name="contrast" />
          <span className="button-word">Invert</span>
        </button>
      )}
      <button type="button" className="button button-quiet" onClick={onReset} title="Reset the view (R)">
        <Icon name="reset" />
        <span className="button-word">Reset</span>
      </button>
      <details className="help-box">
        <summary aria-label="How to use the viewer">?</summary>
        <dl>
          <dt>Wheel, arrow keys</dt>
          <dd>change the slice</dd>
          <dt>Drag</dt>
          <dd>change the window; on touch screens, the slice</dd>
          <dt>Ctrl and wheel, pinch</dt>
          <dd>zoom</dd>
          <dt>Shift and drag, two fingers</dt>
          <dd>move</dd>
          <dt>Double click, R</dt>
          <dd>reset</dd>
        </dl>
      </details>
    </div>
  );
}
