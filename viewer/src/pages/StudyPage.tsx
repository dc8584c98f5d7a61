import { useMemo, useRef, useState } from "preact/hooks";
import { type OfferedPlugin, type Output, type Run, getStudy, listRuns, listSeries, offeredPlugins, paths } from "../api";
import { Icon } from "../components/Icon";
import { ImageViewer } from "../components/ImageViewer";
import { MeshView } from "../components/MeshView";
import { Notice } from "../components/Notice";
import { PluginForm } from "../components/PluginForm";
import { RunCard } from "../components/RunCard";
import { SeriesList } from "../components/SeriesList";
import { type Dataset, formatDate, number, text, texts } from "../dicom";
import { useDebounced, useResource, useServerEvents, useTitle } from "../hooks";
import { type Segmentation, readSegmentations } from "../imaging/segmentation";
import { setQuery } from "../router";

/** Modalities whose objects are about images, not images themselves. */
const DERIVED = new Set(["SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "DOC", "M3D", "ANN", "RWV", "ECG"]);

/** One study. What is looked at is in the address: `series`, the segmentation `seg` above it, or a `mesh`. */
export function StudyPage({ study, query }: { study: string; query: URLSearchParams }) {
  const header = useResource((signal) => getStudy(study, signal), [study]);
  const listed = useResource((signal) => listSeries(study, signal), [study]);
  const plugins = useResource((signal) => offeredPlugins(study, signal), [study]);
  const { runs, started, reloadRuns } = useRuns(study);
  const segmentations = useSegmentations(study, listed.data);
  const reload = useDebounced(() => [header, listed, plugins].forEach((resource) => resource.reload()), 500);
  const [deleted, setDeleted] = useState(false);
  useServerEvents((name, data) => {
    if (name === "resumed") reload();
    if (name === "resumed") reloadRuns();
    if (name === "stored" && (data as { study: string }).study === study) reload();
    if (name === "deleted" && (data as { study: string }).study === study) setDeleted(true);
  });

  const description = text(header.data ?? {}, "StudyDescription");
  useTitle(description || "Study");
  const series = useMemo(() => inReadingOrder(listed.data ?? []), [listed.data]);
  const overlay = segmentations.find(({ series }) => series === query.get("seg")) ?? null;
  const current = series.find((entry) => text(entry, "SeriesInstanceUID") === query.get("series")) ?? series[0];
  const mesh = runs.flatMap((run) => run.outputs).find(({ url }) => url && url === query.get("mesh"));

  const select = (entry: Dataset) => {
    const uid = text(entry, "SeriesInstanceUID");
    const chosen = segmentations.find((candidate) => candidate.series === uid);
    if (!chosen) return setQuery({ series: uid, seg: "", mesh: "" });
    return setQuery({ series: chosen.references[0] ?? "", seg: chosen.series === overlay?.series ? "" : chosen.series, mesh: "" });
  };
  const stage = useRef<HTMLElement>(null);
  const show = (output: Output) => {
    // On a phone the images are above what was pressed.
    stage.current?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    if (output.url) return setQuery({ mesh: output.url });
    const entry = series.find((candidate) => text(candidate, "SeriesInstanceUID") === output.series);
    if (output.kind === "seg") return setQuery({ series: referenceOf(output, runs), seg: output.series ?? "", mesh: "" });
    return entry && select(entry);
  };

  const failure = header.error ?? listed.error;
  if (deleted || failure?.status === 404 || failure?.status === 410) return <Gone />;
  return (
    <main class="study" id="main">
      <StudyHeader study={study} header={header.data} />
      {failure && <Notice error={failure} retry={reload} />}
      <div class="study-body">
        <SeriesList study={study} series={series} current={current ? text(current, "SeriesInstanceUID") : ""} overlay={overlay?.series ?? ""} onSelect={select} />
        <section class="study-stage" aria-label="Images" ref={stage}>
          {mesh ? (
            <MeshView output={mesh} onClose={() => setQuery({ mesh: "" })} />
          ) : (
            current && <ImageViewer key={text(current, "SeriesInstanceUID")} study={study} series={current} segmentation={overlay} />
          )}
        </section>
        <aside class="panel" aria-label="Plugins and results">
          {plugins.error && <Notice error={plugins.error} retry={plugins.reload} />}
          <Plugins study={study} offered={plugins.data} series={series} current={current} runs={runs} onStarted={started} onShow={show} />
        </aside>
      </div>
    </main>
  );
}

function StudyHeader({ study, header }: { study: string; header: Dataset | null }) {
  return (
    <div class="study-header">
      <a class="button button-quiet" href="/" aria-label="All studies">
        <Icon name="arrow" />
      </a>
      <div class="study-names">
        <h1>{header ? text(header, "StudyDescription") || "No description" : "\u00a0"}</h1>
        {header && (
          <p>
            <span class="mono">{text(header, "PatientName") || text(header, "PatientID")}</span>
            <span>{formatDate(text(header, "StudyDate"))}</span>
            <span>{texts(header, "ModalitiesInStudy").join(", ")}</span>
          </p>
        )}
      </div>
      <a class="button" href={paths.ohif(study)} target="_blank" rel="noreferrer">
        <Icon name="external" />
        <span>
          <span class="wide-only">Open in </span>OHIF
        </span>
      </a>
    </div>
  );
}

interface PluginsProps {
  study: string;
  offered: OfferedPlugin[] | null;
  series: readonly Dataset[];
  current: Dataset | undefined;
  runs: readonly Run[];
  onStarted: (run: Run) => void;
  onShow: (output: Output) => void;
}

function Plugins({ study, offered, series, current, runs, onStarted, onShow }: PluginsProps) {
  const [open, setOpen] = useState<string | null>(null);
  const [earlier, setEarlier] = useState<Run | null>(null);
  const repeat = (run: Run) => {
    setEarlier(run);
    setOpen(run.plugin);
  };
  const begun = (run: Run) => {
    setOpen("");
    onStarted(run);
  };
  // Until the reader opens one: the first, where nothing was run yet.
  const shown = open ?? (runs.length === 0 ? offered?.[0]?.name : "");
  return (
    <>
      <h2>Plugins</h2>
      {offered?.length === 0 && <p class="soft">No plugin accepts the series of this study.</p>}
      {offered?.map((plugin) => (
        <section class="plugin" key={plugin.name} data-plugin={plugin.name}>
          <button type="button" class="plugin-head" aria-expanded={plugin.name === shown} onClick={() => setOpen(plugin.name === shown ? "" : plugin.name)}>
            <Icon name="chevron" />
            <span>
              <b>{plugin.title}</b>
              <small>{plugin.description}</small>
            </span>
          </button>
          {plugin.name === shown && (
            <PluginForm
              key={earlier?.id ?? ""}
              study={study}
              plugin={plugin}
              series={series}
              current={current ? text(current, "SeriesInstanceUID") : ""}
              earlier={earlier?.plugin === plugin.name ? earlier.parameters : null}
              onStarted={begun}
            />
          )}
        </section>
      ))}
      {runs.length > 0 && (
        <>
          <h2>Runs</h2>
          <ul class="runs">
            {runs.map((run) => (
              <RunCard key={run.id} run={run} onShow={onShow} onRepeat={repeat} />
            ))}
          </ul>
        </>
      )}
    </>
  );
}

function Gone() {
  return (
    <main class="message" id="main">
      <h1>This study is not in the archive</h1>
      <p>It was deleted, or the address is wrong.</p>
      <a class="button" href="/">
        All studies
      </a>
    </main>
  );
}

/** Runs of the study, kept current by the server's events. A result that was just made is shown on the images. */
function useRuns(study: string) {
  const listed = useResource((signal) => listRuns(study, signal), [study]);
  const [changes, setChanges] = useState<ReadonlyMap<string, Run>>(new Map());
  const [mine, setMine] = useState<ReadonlySet<string>>(new Set());
  const remember = (run: Run) => setChanges((before) => new Map(before).set(run.id, run));
  useServerEvents((name, data) => {
    const run = data as Run;
    if (name !== "run" || run.study !== study) return;
    remember(run);
    const made = run.state === "succeeded" && mine.has(run.id) && run.outputs.find(({ kind }) => kind === "seg");
    if (made && made.series) setQuery({ series: run.series[0] ?? "", seg: made.series, mesh: "" });
  });
  const runs = useMemo(() => merged(listed.data ?? [], changes), [listed.data, changes]);
  const started = (run: Run) => {
    setMine((before) => new Set(before).add(run.id));
    remember(run);
  };
  return { runs, started, reloadRuns: listed.reload };
}

const ENDED = new Set<string>(["succeeded", "failed", "cancelled", "timed_out"]);

/** Newest first. Of two states of a run the later one counts: an ended run does not go back. */
function merged(listed: readonly Run[], changes: ReadonlyMap<string, Run>): Run[] {
  const runs = new Map(listed.map((run) => [run.id, run]));
  for (const run of changes.values()) {
    const known = runs.get(run.id);
    if (!known || !ENDED.has(known.state)) runs.set(run.id, run);
  }
  return [...runs.values()].sort((a, b) => b.created.localeCompare(a.created));
}

/** All segmentations of the study: which series they lie on is in their metadata alone. */
function useSegmentations(study: string, series: readonly Dataset[] | null): Segmentation[] {
  const uids = (series ?? []).filter((entry) => text(entry, "Modality") === "SEG").map((entry) => text(entry, "SeriesInstanceUID"));
  const found = useResource(
    async (signal) => (await Promise.all(uids.map((uid) => readSegmentations(study, uid, signal).catch(() => [])))).flat(),
    [study, uids.join()],
  );
  return found.data ?? [];
}

/** Images before what was derived from them, each by SeriesNumber. */
function inReadingOrder(series: readonly Dataset[]): Dataset[] {
  const rank = (entry: Dataset) => (DERIVED.has(text(entry, "Modality")) ? 1e9 : 0) + (number(entry, "SeriesNumber") ?? 1e6);
  return series.toSorted((a, b) => rank(a) - rank(b));
}

function referenceOf(output: Output, runs: readonly Run[]): string {
  return runs.find((run) => run.outputs.includes(output))?.series[0] ?? "";
}
