import { useMemo } from "react";
import { seriesMetadata } from "../api";
import { type Dataset, number, seriesUid, text } from "../dicom";
import { useResource } from "../hooks";
import { framesOf } from "../imaging/frames";
import type { Segmentation } from "../imaging/segmentation";
import { FrameViewer } from "./FrameViewer";
import { Notice } from "./Notice";
import { ReportView } from "./ReportView";

interface Props {
  study: string;
  series: Dataset;
  segmentation: Segmentation | null;
}

/** Shows what a series holds: images, a structured report, or a word about why there is nothing to see. */
export function ImageViewer({ study, series, segmentation }: Props) {
  const uid = seriesUid(series);
  const metadata = useResource(
    (signal) => seriesMetadata(study, uid, signal),
    [study, uid, number(series, "NumberOfSeriesRelatedInstances")],
  );
  const frames = useMemo(() => framesOf(metadata.data ?? []), [metadata.data]);
  const reports = metadata.data?.filter((dataset) => text(dataset, "ValueType") === "CONTAINER") ?? [];

  if (metadata.error) return <Notice error={metadata.error} retry={metadata.reload} />;
  if (!metadata.data) return <div className="stage stage-waiting" aria-busy="true" />;
  if (frames.length > 0) {
    return (
      <FrameViewer
        study={study}
        series={uid}
        modality={text(series, "Modality")}
        frames={frames}
        segmentation={segmentation}
      />
    );
  }
  if (reports.length > 0) return <ReportView reports={reports} />;
  return (
    <div className="message">
      <h2>This series has no images</h2>
      <p>OHIF may know how to show it.</p>
    </div>
  );
}
