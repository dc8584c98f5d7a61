import { paths } from "../api";
import { type Dataset, count, number, seriesUid, text } from "../dicom";
import { Thumbnail } from "./Thumbnail";

interface Props {
  study: string;
  series: readonly Dataset[];
  current: string;
  /** The segmentation that is laid over the images. */
  overlay: string;
  onSelect: (series: Dataset) => void;
}

export function SeriesList({ study, series, current, overlay, onSelect }: Props) {
  return (
    <nav className="series" aria-label="Series">
      <ul>
        {series.map((entry) => {
          const uid = seriesUid(entry);
          const modality = text(entry, "Modality");
          return (
            <li key={uid}>
              <button
                type="button"
                aria-current={uid === current}
                aria-pressed={modality === "SEG" ? uid === overlay : undefined}
                onClick={() => onSelect(entry)}
              >
                <Thumbnail resource={paths.series(study, uid)} modality={modality} />
                <span className="series-title">{text(entry, "SeriesDescription") || "No description"}</span>
                <span className="series-facts">
                  <b className="tag">{modality}</b>
                  {count(number(entry, "NumberOfSeriesRelatedInstances") ?? 0, "object")}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}
