import { useMemo, useRef, useState } from "react";
import { type Output, type Run, getStudy, listSeries, offeredPlugins, paths } from "../api";
import { BASE } from "../base";
import { Icon } from "../components/Icon";
import { ImageViewer } from "../components/ImageViewer";
import { MeshView } from "../components/MeshView";
import { Notice } from "../components/Notice";
import { PluginPanel } from "../components/PluginPanel";
import { SeriesList } from "../components/SeriesList";
import { type Dataset, formatDate, seriesUid, text, texts } from "../dicom";
import { useDebounced, useResource, useServerEvents, useTitle } from "../hooks";
import { setQuery } from "../router";
import { inReadingOrder, useRuns, useSegmentations } from "./study-data";

/** One study. What is looked at is in the address: `series`, the segmentation `seg` above it, or a `mesh`. */
export function StudyPage({ study, query }: { study: string; query: URLSearchParams }) {
  const header = useResource((signal) => getStudy(study, signal), [study]);
  const listed = useResource((signal) => listSeries(study, signal), [study]);
  const plugins = useResource((signal) => offeredPlugins(study, signal), [study]);
  const { runs, started, reloadRuns } = useRuns(study);
  const segmentations = useSegmentations(study, listed.data);
  const reload = useDebounced(() => [header, listed, plugins].forEach((resource) => resource.reload()), 500);
  const [deleted, setDeleted] = useState(false);
  useServerEvents(({ name, data }) => {
    if (name === "resumed") reloadRuns();
    if (name === "resumed" || (name === "stored" && data.study === study)) reload();
    if (name === "deleted" && data.study === study) setDeleted(true);
  });

  const description = text(header.data ?? {}, "StudyDescription");
  useTitle(description || "Study");
  const series = useMemo(() => inReadingOrder(listed.data ?? []), [listed.data]);
  const overlay = segmentations.find(({ series }) => series === query.get("seg")) ?? null;
  const current = series.find((entry) => seriesUid(entry) === query.get("series")) ?? series[0];
  const mesh = runs.flatMap((run) => run.outputs).find(({ url }) => url && url === query.get("mesh"));

  const select = (entry: Dataset) => {
    const uid = seriesUid(entry);
    const chosen = segmentations.find((candidate) => candidate.series === uid);
    const images = chosen?.references.find((reference) =>
      series.some((candidate) => seriesUid(candidate) === reference),
    );
    if (!chosen || !images) return setQuery({ series: uid, seg: "", mesh: "" });
    return setQuery({ series: images, seg: chosen.series === overlay?.series ? "" : chosen.series, mesh: "" });
  };
  const stage = useRef<HTMLElement>(null);
  const show = (output: Output) => {
    // On a phone the images are above what was pressed.
    stage.current?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    if (output.url) return setQuery({ mesh: output.url });
    const entry = series.find((candidate) => seriesUid(candidate) === output.series);
    if (output.kind === "seg")
      return setQuery({ series: referenceOf(output, runs), seg: output.series ?? "", mesh: "" });
    return entry && select(entry);
  };

  const failure = header.error ?? listed.error;
  if (deleted || failure?.status === 404 || failure?.status === 410) return <Gone />;
  return (
    <main className="study" id="main">
      <StudyHeader study={study} header={header.data} />
      {failure && <Notice error={failure} retry={reload} />}
      <div className="study-body">
        <SeriesList
          study={study}
          series={series}
          current={current ? seriesUid(current) : ""}
          overlay={overlay?.series ?? ""}
          onSelect={select}
        />
        <section className="study-stage" aria-label="Images" ref={stage}>
          {mesh ? (
            <MeshView output={mesh} onClose={() => setQuery({ mesh: "" })} />
          ) : (
            current && <ImageViewer key={seriesUid(current)} study={study} series={current} segmentation={overlay} />
          )}
        </section>
        <aside className="panel" aria-label="Plugins and results">
          {plugins.error && <Notice error={plugins.error} retry={plugins.reload} />}
          <PluginPanel
            study={study}
            offered={plugins.data}
            series={series}
            current={current}
            runs={runs}
            onStarted={started}
            onShow={show}
          />
        </aside>
      </div>
    </main>
  );
}

function StudyHeader({ study, header }: { study: string; header: Dataset | null }) {
  return (
    <div className="study-header">
      <a className="button button-quiet" href={BASE} aria-label="All studies">
        <Icon name="arrow" />
      </a>
      <div className="study-names">
        <h1>{header ? text(header, "StudyDescription") || "No description" : "\u00a0"}</h1>
        {header && (
          <p>
            <span className="mono">{text(header, "PatientName") || text(header, "PatientID")}</span>
            <span>{formatDate(text(header, "StudyDate"))}</span>
            <span>{texts(header, "ModalitiesInStudy").join(", ")}</span>
          </p>
        )}
      </div>
      <a className="button" href={paths.ohif(study)} target="_blank" rel="noreferrer">
        <Icon name="external" />
        <span>
          <span className="wide-only">Open in </span>OHIF
        </span>
      </a>
    </div>
  );
}

function Gone() {
  return (
    <main className="message" id="main">
      <h1>This study is not in the archive</h1>
      <p>It was deleted, or the address is wrong.</p>
      <a className="button" href={BASE}>
        All studies
      </a>
    </main>
  );
}

function referenceOf(output: Output, runs: readonly Run[]): string {
  return runs.find((run) => run.outputs.includes(output))?.series[0] ?? "";
}
