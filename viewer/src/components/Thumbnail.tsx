import { useState } from "preact/hooks";
import { paths } from "../api";
import { Icon, type IconName } from "./Icon";

const ICONS: Record<string, IconName> = { M3D: "cube", SEG: "layers" };

/** A picture of a study, series or instance, or an icon where it has none. */
export function Thumbnail({ resource, modality }: { resource: string; modality: string }) {
  const [missing, setMissing] = useState(false);
  if (missing) {
    return (
      <span class="thumbnail thumbnail-none">
        <Icon name={ICONS[modality] ?? "image"} />
      </span>
    );
  }
  return <img class="thumbnail" src={paths.thumbnail(resource)} alt="" loading="lazy" decoding="async" onError={() => setMissing(true)} />;
}
