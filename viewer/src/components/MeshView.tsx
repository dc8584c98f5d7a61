import { useEffect, useRef, useState } from "react";
import { type ApiError, type Output, getMesh } from "../api";
import { asApiError } from "../hooks";
import type { MeshScene } from "../imaging/mesh-scene";
import { DIRECTIONS, type Direction, cubeTransform } from "../imaging/orientation";
import { Icon } from "./Icon";
import { Notice } from "./Notice";
import { OrientationCube } from "./OrientationCube";

/** A mesh that can be turned. X_ITE is loaded when the first one is opened. */
export function MeshView({ output, onClose }: { output: Output; onClose: () => void }) {
  const stage = useRef<HTMLDivElement>(null);
  const cube = useRef<HTMLDivElement>(null);
  const scene = useRef<MeshScene | null>(null);
  const [state, setState] = useState<"loading" | "ready">("loading");
  const [error, setError] = useState<ApiError | null>(null);
  const [attempt, setAttempt] = useState(0);
  const url = output.url ?? "";

  useEffect(() => {
    const control = new AbortController();
    setState("loading");
    setError(null);
    const open = async () => {
      const [{ MeshScene }, x3d] = await Promise.all([import("../imaging/mesh-scene"), getMesh(url, control.signal)]);
      if (control.signal.aborted) return;
      scene.current = new MeshScene((camera) => cube.current?.style.setProperty("transform", cubeTransform(camera)));
      stage.current?.prepend(scene.current.element);
      await scene.current.show(x3d);
      if (!control.signal.aborted) setState("ready");
    };
    open().catch((reason: unknown) => !control.signal.aborted && setError(asApiError(reason)));
    return () => {
      control.abort();
      scene.current?.close();
      scene.current = null;
    };
  }, [url, attempt]);

  const look = (from: Direction) => scene.current?.lookFrom(from);
  return (
    <div className="viewer">
      <div className="tools" role="toolbar" aria-label="3D model">
        <button type="button" className="button" onClick={onClose}>
          <Icon name="image" />
          Images
        </button>
        <h2 className="tools-title">{output.title || "3D model"}</h2>
        <span className="tools-gap" />
        <button type="button" className="button button-quiet" onClick={() => look(DIRECTIONS[0] as Direction)}>
          <Icon name="reset" />
          <span className="button-word">Reset</span>
        </button>
      </div>
      <div className="stage stage-mesh" ref={stage} data-state={state}>
        {error && <Notice error={error} retry={() => setAttempt(attempt + 1)} />}
        {state === "loading" && !error && (
          <p className="stage-message" role="status">
            Loading the 3D model…
          </p>
        )}
        <OrientationCube cube={cube} onLook={look} />
        <p className="stage-hint">Drag to turn, wheel or pinch to zoom</p>
      </div>
    </div>
  );
}
