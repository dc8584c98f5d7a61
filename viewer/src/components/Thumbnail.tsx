import { useState } from "react";
import { paths } from "../api";
import { Icon, type IconName } from "./Icon";

/** Modalities whose objects have no pixels: there is no picture to ask for. */
const WITHOUT_PICTURE = new Set(["SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "ANN", "RWV", "ECG", "M3D"]);

const ICONS: Record<string, IconName> = { M3D: "cube", SEG: "layers", SR: "report" };

/** A picture of a study, series or instance, or an icon where it has none. */
export function Thumbnail({ resource, modality }: { resource: string; modality: string }) {
  const [missing, setMissing] = useState(WITHOUT_PICTURE.has(modality));
  if (missing) {
    return (
      <span className="thumbnail thumbnail-none">
        <Icon name={ICONS[modality] ?? "image"} />
      </span>
    );
  }
  return (
    <img
      className="thumbnail"
      src={paths.thumbnail(resource)}
      alt=""
      loading="lazy"
      decoding="async"
      onError={() => setMissing(true)}
    />
  );
}
