import { describe, expect, test } from "vitest";
import { type Dataset, count, formatDate, item, number, text, texts, unitSign } from "../src/dicom";

const study: Dataset = {
  "00100010": { vr: "PN", Value: [{ Alphabetic: "Doe^Jane^^Dr" }] },
  "00100020": { vr: "LO" },
  "00080061": { vr: "CS", Value: ["CT", null, "SEG"] },
  "00201208": { vr: "IS", Value: ["99"] },
  "0040A043": { vr: "SQ", Value: [{ "00080104": { vr: "LO", Value: ["Volume"] } }] },
};

describe("values", () => {
  test("of person names read as people write them", () => expect(text(study, "PatientName")).toBe("Doe, Jane Dr"));
  test("that are absent or empty are empty text", () => {
    expect(text(study, "PatientID")).toBe("");
    expect(text(study, "StudyDescription")).toBe("");
    expect(text(undefined, "Modality")).toBe("");
  });
  test("that are null are left out of lists", () => expect(texts(study, "ModalitiesInStudy")).toEqual(["CT", "SEG"]));
  test("of IS may be text or numbers", () => expect(number(study, "NumberOfStudyRelatedInstances")).toBe(99));
  test("of sequences are data sets", () =>
    expect(text(item(study, "ConceptNameCodeSequence"), "CodeMeaning")).toBe("Volume"));
});

test("names in ideographic writing alone are shown in it", () => {
  expect(text({ "00100010": { vr: "PN", Value: [{ Ideographic: "山田^太郎" }] } }, "PatientName")).toBe("山田, 太郎");
});

test("dates name the month, and what is no date stays as it is", () => {
  expect(formatDate("19600104")).toBe("4 Jan 1960");
  expect(formatDate("1960")).toBe("1960");
});

test("counts agree with their noun", () => {
  expect(count(1, "slice")).toBe("1 slice");
  expect(count(1234, "match", "matches")).toBe("1,234 matches");
});

test("units that UCUM spells in its own way have their usual sign", () => {
  expect(["[hnsf'U]", "mm2", "mL", "1"].map(unitSign)).toEqual(["HU", "mm²", "mL", ""]);
});
