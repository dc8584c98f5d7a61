import { describe, expect, test } from "vitest";
import {
  type ParameterSchema,
  fieldsOf,
  initialValues,
  niceStep,
  parametersFrom,
  problemsIn,
  valuesFrom,
} from "../src/schema";

const SCHEMA: ParameterSchema = {
  type: "object",
  properties: {
    low: {
      type: "integer",
      title: "Threshold",
      default: 160,
      minimum: -200,
      maximum: 1000,
      "x-unit": "HU",
      "x-widget": "slider",
    },
    smoothing_mm: { type: "number", default: 0.5, exclusiveMinimum: 0, maximum: 3, "x-widget": "slider" },
    quality: { enum: ["preview", "full"], default: "full" },
    levels: { enum: [1, 2, 4], default: 2 },
    fill: { type: "boolean", default: true },
    note: { type: "string" },
  },
};
const fields = fieldsOf(SCHEMA);
const field = (name: string) => fields.find((candidate) => candidate.name === name);

describe("fields", () => {
  test("take control, unit and limits from the schema", () => {
    expect(field("low")).toMatchObject({
      kind: "number",
      integer: true,
      label: "Threshold",
      unit: "HU",
      minimum: -200,
      maximum: 1000,
      step: 1,
      slider: true,
    });
    expect(field("quality")).toMatchObject({ kind: "choice", choices: ["preview", "full"], initial: "full" });
    expect(field("fill")).toMatchObject({ kind: "flag", initial: true });
    expect(field("note")).toMatchObject({ kind: "text", initial: "" });
  });

  test("without a title are named after the parameter", () => {
    expect(field("smoothing_mm")?.label).toBe("Smoothing mm");
  });

  test("with a slider need both limits", () => {
    const [unbounded] = fieldsOf({ properties: { n: { type: "number", minimum: 0, "x-widget": "slider" } } });
    expect(unbounded).toMatchObject({ slider: false });
  });
});

test.each([
  [0.03, 0.02],
  [1, 1],
  [12, 10],
  [0.05, 0.05],
  [7, 5],
])("a hundredth of the range of about %d gives steps of %d", (size, step) => {
  expect(niceStep(size)).toBe(step);
});

describe("values", () => {
  test("of the defaults are accepted and sent in the types of the schema", () => {
    const values = initialValues(fields);
    expect(problemsIn(fields, values)).toEqual({});
    expect(parametersFrom(fields, values, SCHEMA)).toEqual({
      low: 160,
      smoothing_mm: 0.5,
      quality: "full",
      levels: 2,
      fill: true,
      note: "",
    });
  });

  test.each([
    ["low", "", "Enter a number."],
    ["low", "1.5", "Enter a whole number."],
    ["low", "-201", "Enter -200 HU or more."],
    ["low", "5000", "Enter 1000 HU or less."],
    ["quality", "best", "Choose one of the options."],
  ])("%s = %j is refused: %s", (name, value, problem) => {
    expect(problemsIn(fields, { ...initialValues(fields), [name]: value })).toEqual({ [name]: problem });
  });

  test("of an earlier run are taken over, and parameters that it did not have keep their default", () => {
    expect(valuesFrom(fields, { low: 200, fill: false, dropped: 1 })).toMatchObject({
      low: "200",
      fill: false,
      quality: "full",
    });
  });
});
