/** Every request that the application makes: DICOMweb for what is stored, /api/v1 for the rest. */

import { at } from "./base";
import { type Dataset, tag } from "./dicom";
import { boundaryOf, multipartOf, partsOf } from "./multipart";
import type { ParameterSchema } from "./schema";

export interface Info {
  name: string;
  version: string;
  ae_title: string;
  dicom: string;
  profile: string;
  auth: string;
  demo: boolean;
}

export interface Plugin {
  name: string;
  title: string;
  version: string;
  description: string;
  category?: string;
}

export interface OfferedPlugin extends Plugin {
  series: string[];
}

export type RunState = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "timed_out";

export interface Output {
  kind: string;
  title?: string;
  study?: string;
  series?: string;
  instance?: string;
  url?: string;
  triangles?: number;
}

export interface Measurement {
  name: string;
  value: number;
  unit: string;
}

export interface Run {
  id: string;
  plugin: string;
  version: string;
  title: string;
  study: string;
  series: string[];
  parameters: Record<string, unknown>;
  state: RunState;
  progress: number;
  message: string;
  created: string;
  started: string | null;
  finished: string | null;
  outputs: Output[];
  measurements: Measurement[];
  error: string | null;
}

/** The server answered, but not with what was asked for. Its message is one sentence for people. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1";
const DICOM_JSON = { Accept: "application/dicom+json" };

export const paths = {
  study: (study: string) => at(`dicomweb/studies/${study}`),
  series: (study: string, series: string) => at(`dicomweb/studies/${study}/series/${series}`),
  instance: (study: string, series: string, instance: string) =>
    at(`dicomweb/studies/${study}/series/${series}/instances/${instance}`),
  thumbnail: (resource: string) => `${resource}/thumbnail?accept=image/jpeg`,
  ohif: (study: string) => at(`ohif/viewer?StudyInstanceUIDs=${study}`),
  events: at("api/v1/events"),
};

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The gateway cannot be reached. It is tried again when the connection is back.");
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await explanation(response));
}

async function explanation(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => null);
  const error = body !== null && typeof body === "object" && "error" in body ? body.error : null;
  return typeof error === "string" ? error : `The gateway answered ${response.status} ${response.statusText}.`;
}

async function getJson<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await request(path, init);
  return response.status === 204 ? ([] as T) : ((await response.json()) as T);
}

// --- DICOMweb ---------------------------------------------------------------------------------------------------

export type StudyFilter = Partial<
  Record<"PatientID" | "PatientName" | "StudyDescription" | "ModalitiesInStudy", string>
>;

export function searchStudies(
  filter: StudyFilter,
  limit: number,
  offset: number,
  signal: AbortSignal,
): Promise<Dataset[]> {
  const query = new URLSearchParams({ ...filter, limit: String(limit), offset: String(offset) });
  query.set(
    "includefield",
    [
      tag("StudyDescription"),
      tag("ModalitiesInStudy"),
      tag("NumberOfStudyRelatedSeries"),
      tag("NumberOfStudyRelatedInstances"),
    ].join(","),
  );
  return getJson(at(`dicomweb/studies?${query}`), { headers: DICOM_JSON, signal });
}

export async function getStudy(study: string, signal: AbortSignal): Promise<Dataset> {
  const query = new URLSearchParams({ StudyInstanceUID: study, includefield: "all" });
  const found = await getJson<Dataset[]>(at(`dicomweb/studies?${query}`), { headers: DICOM_JSON, signal });
  if (!found[0]) throw new ApiError(404, "This study is not in the archive, or it was deleted.");
  return found[0];
}

export function listSeries(study: string, signal: AbortSignal): Promise<Dataset[]> {
  const fields = [tag("SeriesDescription"), tag("NumberOfSeriesRelatedInstances")].join(",");
  return getJson(`${paths.study(study)}/series?includefield=${fields}`, { headers: DICOM_JSON, signal });
}

export function seriesMetadata(study: string, series: string, signal: AbortSignal): Promise<Dataset[]> {
  return getJson(`${paths.series(study, series)}/metadata`, { headers: DICOM_JSON, signal });
}

/** Pixels of frames (numbered from 1) as Explicit VR Little Endian: decompressed by the server, one array a frame. */
export async function framePixels(
  instance: string,
  frames: readonly number[],
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const Accept = `multipart/related; type="application/octet-stream"; transfer-syntax=${EXPLICIT_LITTLE_ENDIAN}`;
  const response = await request(`${instance}/frames/${frames.join(",")}`, { headers: { Accept }, signal });
  const body = new Uint8Array(await response.arrayBuffer());
  const boundary = boundaryOf(response.headers.get("Content-Type") ?? "");
  return boundary === null ? [body] : partsOf(body, boundary);
}

/** A frame rendered by the server with the window of the file. */
export async function renderedFrame(instance: string, frame: number, signal: AbortSignal): Promise<Blob> {
  const response = await request(`${instance}/frames/${frame}/rendered`, { headers: { Accept: "image/jpeg" }, signal });
  return response.blob();
}

/** Stores DICOM files. Refused ones are in the answer, whatever its status (PS3.18 section 10.5.3). */
export async function storeInstances(files: readonly Blob[], signal: AbortSignal): Promise<Dataset> {
  const boundary = `isthmus-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  const response = await fetch(at("dicomweb/studies"), {
    method: "POST",
    headers: { ...DICOM_JSON, "Content-Type": `multipart/related; type="application/dicom"; boundary=${boundary}` },
    body: multipartOf(files, boundary),
    signal,
  });
  const answer = response.headers.get("Content-Type")?.startsWith("application/dicom+json");
  if (answer) return (await response.json()) as Dataset;
  throw new ApiError(response.status, await explanation(response));
}

// --- REST -------------------------------------------------------------------------------------------------------

export const getInfo = (signal: AbortSignal): Promise<Info> => getJson(at("api/v1/info"), { signal });

/** The plugins that accept a series of the study, or several. */
export async function offeredPlugins(study: string, signal: AbortSignal): Promise<OfferedPlugin[]> {
  const plugins = await getJson<OfferedPlugin[]>(at(`api/v1/studies/${study}/plugins`), { signal });
  return plugins.filter(({ series }) => series.length > 0);
}

export const getPlugin = (name: string, signal: AbortSignal): Promise<Plugin & { parameters: ParameterSchema }> =>
  getJson(at(`api/v1/plugins/${name}`), { signal });

export async function listRuns(study: string, signal: AbortSignal): Promise<Run[]> {
  const { runs } = await getJson<{ runs: Run[] }>(at(`api/v1/runs?study=${study}`), { signal });
  return runs;
}

export function startRun(
  plugin: string,
  study: string,
  series: string[],
  parameters: Record<string, unknown>,
): Promise<Run> {
  return getJson(at(`api/v1/plugins/${plugin}/runs`), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ study, series, parameters }),
  });
}

export async function cancelRun(id: string): Promise<void> {
  await request(at(`api/v1/runs/${id}`), { method: "DELETE" });
}

/** The log of a run, piece by piece while it is written. */
export async function readLog(id: string, onText: (text: string) => void, signal: AbortSignal): Promise<void> {
  const response = await request(at(`api/v1/runs/${id}/log`), { signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let chunk = await reader?.read(); chunk && !chunk.done; chunk = await reader?.read()) onText(chunk.value);
}

export const meshAs = (url: string, type: string): string => `${url}?accept=${encodeURIComponent(type)}`;

export async function getMesh(url: string, signal: AbortSignal): Promise<string> {
  const response = await request(url, { headers: { Accept: "model/x3d+xml" }, signal });
  return response.text();
}

/** Exchanges an access token for a session cookie. */
export async function signIn(token: string): Promise<void> {
  const response = await fetch(at("login"), { method: "POST", body: new URLSearchParams({ token }) });
  if (!response.ok) throw new ApiError(response.status, await explanation(response));
}
