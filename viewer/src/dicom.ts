/** DICOM JSON (PS3.18 Annex F): reading values by keyword, and saying them to people. */

export interface Element {
  vr: string;
  Value?: unknown[];
  BulkDataURI?: string;
  InlineBinary?: string;
}

export type Dataset = Record<string, Element | undefined>;

const TAGS = {
  StudyDate: "00080020",
  SOPInstanceUID: "00080018",
  Modality: "00080060",
  ModalitiesInStudy: "00080061",
  CodeValue: "00080100",
  CodeMeaning: "00080104",
  StudyDescription: "00081030",
  SeriesDescription: "0008103E",
  ReferencedSeriesSequence: "00081115",
  ReferencedSOPInstanceUID: "00081155",
  ReferencedFrameNumber: "00081160",
  FailureReason: "00081197",
  FailedSOPSequence: "00081198",
  ReferencedSOPSequence: "00081199",
  OtherFailuresSequence: "0008119A",
  SourceImageSequence: "00082112",
  DerivationImageSequence: "00089124",
  PatientName: "00100010",
  PatientID: "00100020",
  StudyInstanceUID: "0020000D",
  SeriesInstanceUID: "0020000E",
  SeriesNumber: "00200011",
  InstanceNumber: "00200013",
  ImagePositionPatient: "00200032",
  ImageOrientationPatient: "00200037",
  PlanePositionSequence: "00209113",
  PlaneOrientationSequence: "00209116",
  NumberOfStudyRelatedSeries: "00201206",
  NumberOfStudyRelatedInstances: "00201208",
  NumberOfSeriesRelatedInstances: "00201209",
  SamplesPerPixel: "00280002",
  PhotometricInterpretation: "00280004",
  NumberOfFrames: "00280008",
  Rows: "00280010",
  Columns: "00280011",
  PixelSpacing: "00280030",
  ImagerPixelSpacing: "00181164",
  BitsAllocated: "00280100",
  BitsStored: "00280101",
  PixelRepresentation: "00280103",
  WindowCenter: "00281050",
  WindowWidth: "00281051",
  RescaleIntercept: "00281052",
  RescaleSlope: "00281053",
  ModalityLUTSequence: "00283000",
  VOILUTSequence: "00283010",
  PixelMeasuresSequence: "00289110",
  FrameVOILUTSequence: "00289132",
  PixelValueTransformationSequence: "00289145",
  ConceptNameCodeSequence: "0040A043",
  ConceptCodeSequence: "0040A168",
  MeasuredValueSequence: "0040A300",
  MeasurementUnitsCodeSequence: "004008EA",
  NumericValue: "0040A30A",
  ContentSequence: "0040A730",
  ValueType: "0040A040",
  TextValue: "0040A160",
  UID: "0040A124",
  SharedFunctionalGroupsSequence: "52009229",
  PerFrameFunctionalGroupsSequence: "52009230",
  SegmentationType: "00620001",
  SegmentSequence: "00620002",
  SegmentIdentificationSequence: "0062000A",
  ReferencedSegmentNumber: "0062000B",
  SegmentNumber: "00620004",
  SegmentLabel: "00620005",
  RecommendedDisplayCIELabValue: "0062000D",
} as const;

export type Keyword = keyof typeof TAGS;

/** The tag of a keyword, as DICOM JSON and QIDO-RS write it. */
export const tag = (keyword: Keyword): string => TAGS[keyword];

export function values(dataset: Dataset | undefined, keyword: Keyword): unknown[] {
  return dataset?.[TAGS[keyword]]?.Value ?? [];
}

export function items(dataset: Dataset | undefined, keyword: Keyword): Dataset[] {
  return values(dataset, keyword).filter((value): value is Dataset => typeof value === "object" && value !== null);
}

export function item(dataset: Dataset | undefined, keyword: Keyword): Dataset | undefined {
  return items(dataset, keyword)[0];
}

export function numbers(dataset: Dataset | undefined, keyword: Keyword): number[] {
  return values(dataset, keyword).map(Number).filter(Number.isFinite);
}

export function number(dataset: Dataset | undefined, keyword: Keyword): number | undefined {
  return numbers(dataset, keyword)[0];
}

export function texts(dataset: Dataset | undefined, keyword: Keyword): string[] {
  return values(dataset, keyword).map(plain).filter(Boolean);
}

export function text(dataset: Dataset | undefined, keyword: Keyword): string {
  return texts(dataset, keyword)[0] ?? "";
}

export const seriesUid = (dataset: Dataset): string => text(dataset, "SeriesInstanceUID");

/** A person name has up to three component groups; the alphabetic one is shown, carets as commas and spaces. */
function plain(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value ?? "").trim();
  const { Alphabetic, Ideographic, Phonetic } = value as Record<string, string | undefined>;
  const [family = "", ...given] = (Alphabetic || Ideographic || Phonetic || "").split("^");
  return [family, given.filter(Boolean).join(" ")].filter(Boolean).join(", ");
}

/** DA to a date that no reader can misread, for example "4 Jan 1960"; what is no date is returned as it is. */
export function formatDate(date: string): string {
  const match = /^(\d{4})(\d{2})(\d{2})$/.exec(date);
  if (!match) return date;
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number];
  const instant = new Date(Date.UTC(year, month - 1, day));
  return new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }).format(
    instant,
  );
}

/** "1 slice", "99 slices". */
export function count(quantity: number, singular: string, plural = `${singular}s`): string {
  return `${quantity.toLocaleString("en-GB")} ${quantity === 1 ? singular : plural}`;
}

/** UCUM codes that readers know under another sign. */
const UNITS: Record<string, string> = {
  "1": "",
  "[hnsf'U]": "HU",
  Cel: "°C",
  cm2: "cm²",
  mm2: "mm²",
  cm3: "cm³",
  mm3: "mm³",
};

export const unitSign = (ucum: string): string => UNITS[ucum] ?? ucum;
