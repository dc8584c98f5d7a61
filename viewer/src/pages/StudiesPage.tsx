import { useEffect, useEffectEvent, useRef, useState } from "react";
import { type Info, type StudyFilter, searchStudies } from "../api";
import { EmptyArchive } from "../components/EmptyArchive";
import { Icon } from "../components/Icon";
import { Notice } from "../components/Notice";
import { StudyCard } from "../components/StudyCard";
import { UploadPanel } from "../components/UploadPanel";
import { type Dataset, count, text } from "../dicom";
import { useDebounced, useResource, useServerEvents, useTitle } from "../hooks";
import { setQuery } from "../router";
import { type UploadProgress, droppedFiles, upload } from "../upload";

const PAGE_SIZE = 24;
const MAX_MATCHES = 100;
const MODALITIES = ["CT", "MR", "PT", "US", "XA", "CR", "DX", "MG"];

export function StudiesPage({ info, query }: { info: Info | null; query: URLSearchParams }) {
  useTitle("");
  const search = query.get("q") ?? "";
  const modality = query.get("modality") ?? "";
  const page = Math.max(Number(query.get("page")) || 1, 1);
  const studies = useResource((signal) => find(search, modality, page, signal), [search, modality, page]);
  const refresh = useDebounced(studies.reload, 800);
  useServerEvents(({ name }) => name !== "run" && refresh());
  const { progress, send, close } = useUpload();
  const dragging = useDrop(send);

  const found = studies.data?.slice(0, search ? MAX_MATCHES : PAGE_SIZE) ?? [];
  const more = (studies.data?.length ?? 0) > found.length;
  const filtered = search !== "" || modality !== "";

  return (
    <main className="studies" id="main">
      <div className="studies-bar">
        <SearchField value={search} />
        <ModalityFilter value={modality} />
        <label className="button button-main">
          <Icon name="upload" />
          Add studies
          <input
            type="file"
            multiple
            className="hidden"
            onChange={(event) => send([...(event.currentTarget.files ?? [])])}
          />
        </label>
      </div>
      <h1 className="hidden">Studies</h1>
      {studies.error && <Notice error={studies.error} retry={studies.reload} />}
      {studies.data && found.length === 0 && !filtered && page === 1 && <EmptyArchive info={info} />}
      {studies.data && found.length === 0 && (filtered || page > 1) && <NoMatch />}
      <ul className="cards" aria-busy={studies.loading} aria-label="Studies">
        {!studies.data &&
          !studies.error &&
          Array.from({ length: 8 }, (_, at) => <li className="card card-waiting" key={at} />)}
        {found.map((study) => (
          <StudyCard key={text(study, "StudyInstanceUID")} study={study} />
        ))}
      </ul>
      {search && found.length > 0 && (
        <p className="studies-count" role="status">
          {more
            ? `The first ${MAX_MATCHES} matches are shown: say more to narrow them down.`
            : `${count(found.length, "match", "matches")}.`}
        </p>
      )}
      {!search && (page > 1 || more) && <Pager page={page} more={more} />}
      {progress && <UploadPanel progress={progress} onClose={close} />}
      {dragging && (
        <div className="drop" aria-hidden="true">
          <Icon name="upload" />
          Drop DICOM files or folders to store them
        </div>
      )}
    </main>
  );
}

/**
 * One page of studies; of a search, all matches up to a bound. QIDO-RS joins its keys by "and", so that each attribute
 * that a word may stand in is asked for on its own.
 */
async function find(search: string, modality: string, page: number, signal: AbortSignal): Promise<Dataset[]> {
  const filter: StudyFilter = modality ? { ModalitiesInStudy: modality } : {};
  if (!search) return searchStudies(filter, PAGE_SIZE + 1, (page - 1) * PAGE_SIZE, signal);
  const keys = ["PatientName", "PatientID", "StudyDescription"] as const;
  const answers = await Promise.all(
    keys.map((key) => searchStudies({ ...filter, [key]: `*${search}*` }, MAX_MATCHES + 1, 0, signal)),
  );
  return [...new Map(answers.flat().map((study) => [text(study, "StudyInstanceUID"), study])).values()];
}

function SearchField({ value }: { value: string }) {
  const [typed, setTyped] = useState(value);
  // A space that was just typed is not in the address.
  useEffect(() => setTyped((before) => (before.trim() === value ? before : value)), [value]);
  const apply = useDebounced(() => setQuery({ q: typed.trim(), page: "" }), 250);
  return (
    <form className="search" role="search" onSubmit={(event) => event.preventDefault()}>
      <Icon name="search" />
      <input
        type="search"
        value={typed}
        placeholder="Patient or description"
        aria-label="Search studies by patient or description"
        onChange={(event) => {
          setTyped(event.currentTarget.value);
          apply();
        }}
      />
    </form>
  );
}

function ModalityFilter({ value }: { value: string }) {
  return (
    <fieldset className="modalities">
      <legend className="hidden">Modality</legend>
      {["", ...MODALITIES].map((modality) => (
        <label key={modality}>
          <input
            type="radio"
            name="modality"
            checked={modality === value}
            onChange={() => setQuery({ modality, page: "" })}
          />
          <span>{modality || "All"}</span>
        </label>
      ))}
    </fieldset>
  );
}

function Pager({ page, more }: { page: number; more: boolean }) {
  const go = (to: number) => {
    setQuery({ page: to > 1 ? String(to) : "" }, "push");
    scrollTo(0, 0);
  };
  return (
    <nav className="pager" aria-label="Pages">
      <button type="button" className="button" disabled={page === 1} onClick={() => go(page - 1)}>
        Previous page
      </button>
      <span>Page {page}</span>
      <button type="button" className="button" disabled={!more} onClick={() => go(page + 1)}>
        Next page
      </button>
    </nav>
  );
}

function NoMatch() {
  return (
    <div className="message">
      <h2>No study matches</h2>
      <button type="button" className="button" onClick={() => setQuery({ q: "", modality: "", page: "" })}>
        Show all studies
      </button>
    </div>
  );
}

function useUpload() {
  const [progress, setProgress] = useState<UploadProgress | null>(null);
  const control = useRef<AbortController | null>(null);
  const send = (files: File[]) => {
    if (files.length === 0) return;
    control.current?.abort();
    control.current = new AbortController();
    setProgress({ total: files.length, sent: 0, stored: 0, refused: new Map(), done: false });
    void upload(files, setProgress, control.current.signal);
  };
  const close = () => {
    if (progress?.done) setProgress(null);
    else control.current?.abort();
  };
  return { progress, send, close };
}

/** Files may be dropped anywhere on the page; whether some are held over it is returned. */
function useDrop(send: (files: File[]) => void): boolean {
  const [dragging, setDragging] = useState(false);
  const receive = useEffectEvent(send);
  useEffect(() => {
    const control = new AbortController();
    const { signal } = control;
    const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const over = (event: DragEvent) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      setDragging(true);
    };
    const leave = (event: DragEvent) => event.relatedTarget === null && setDragging(false);
    const drop = (event: DragEvent) => {
      if (!carriesFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      setDragging(false);
      void droppedFiles(event.dataTransfer).then(receive);
    };
    addEventListener("dragover", over, { signal });
    addEventListener("dragleave", leave, { signal });
    addEventListener("drop", drop, { signal });
    return () => control.abort();
  }, []);
  return dragging;
}
