/** The form model of a plugin's parameters: JSON Schema in, fields and plain sentences about wrong values out. */

export interface PropertySchema {
  type?: string;
  title?: string;
  description?: string;
  default?: unknown;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  enum?: readonly unknown[];
  "x-unit"?: string;
  "x-widget"?: string;
}

export interface ParameterSchema {
  type?: string;
  properties?: Record<string, PropertySchema>;
  required?: readonly string[];
}

interface Common {
  name: string;
  label: string;
  help: string;
}

export interface NumberField extends Common {
  kind: "number";
  integer: boolean;
  unit: string;
  minimum: number | undefined;
  maximum: number | undefined;
  step: number;
  slider: boolean;
  initial: string;
}

export interface ChoiceField extends Common {
  kind: "choice";
  choices: readonly string[];
  initial: string;
}

export interface FlagField extends Common {
  kind: "flag";
  initial: boolean;
}

export interface TextField extends Common {
  kind: "text";
  initial: string;
}

export type Field = NumberField | ChoiceField | FlagField | TextField;

/** What the controls hold: numbers stay text while they are typed. */
export type Values = Record<string, string | boolean>;

const SLIDER_STEPS = 100;

export function fieldsOf(schema: ParameterSchema): Field[] {
  return Object.entries(schema.properties ?? {}).map(([name, property]) => fieldOf(name, property));
}

function fieldOf(name: string, property: PropertySchema): Field {
  const common = { name, label: property.title ?? humanise(name), help: property.description ?? "" };
  const initial = property.default === undefined ? "" : String(property.default);
  if (property.enum) return { ...common, kind: "choice", choices: property.enum.map(String), initial };
  if (property.type === "boolean") return { ...common, kind: "flag", initial: property.default === true };
  if (property.type !== "integer" && property.type !== "number") return { ...common, kind: "text", initial };
  const integer = property.type === "integer";
  const { minimum, maximum } = bounds(property, integer);
  const bounded = minimum !== undefined && maximum !== undefined;
  return {
    ...common,
    kind: "number",
    integer,
    unit: property["x-unit"] ?? "",
    minimum,
    maximum,
    step: property.multipleOf ?? (integer ? 1 : bounded ? niceStep((maximum - minimum) / SLIDER_STEPS) : 0.1),
    slider: bounded && property["x-widget"] === "slider",
    initial,
  };
}

function bounds(
  property: PropertySchema,
  integer: boolean,
): { minimum: number | undefined; maximum: number | undefined } {
  const { exclusiveMinimum, exclusiveMaximum } = property;
  const inside = integer ? 1 : 0;
  return {
    minimum: property.minimum ?? (exclusiveMinimum === undefined ? undefined : exclusiveMinimum + inside),
    maximum: property.maximum ?? (exclusiveMaximum === undefined ? undefined : exclusiveMaximum - inside),
  };
}

/** The largest of 1, 2 or 5 times a power of ten that is not above `size`. */
export function niceStep(size: number): number {
  const power = 10 ** Math.floor(Math.log10(size));
  const factor = [5, 2, 1].find((candidate) => candidate * power <= size * (1 + 1e-9)) ?? 1;
  return Number((factor * power).toPrecision(1));
}

function humanise(name: string): string {
  const words = name.replaceAll(/[_-]+/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function initialValues(fields: readonly Field[]): Values {
  return Object.fromEntries(fields.map((field) => [field.name, field.initial]));
}

/** The controls' values for parameters of an earlier run; what a newer version dropped is left out. */
export function valuesFrom(fields: readonly Field[], parameters: Record<string, unknown>): Values {
  return Object.fromEntries(
    fields.map((field) => {
      const value = parameters[field.name];
      if (value === undefined || value === null) return [field.name, field.initial];
      return [field.name, field.kind === "flag" ? value === true : String(value)];
    }),
  );
}

/** One sentence for each field whose value the server would refuse. */
export function problemsIn(fields: readonly Field[], values: Values): Record<string, string> {
  const found = fields.map((field) => [field.name, problemWith(field, values[field.name] ?? "")] as const);
  return Object.fromEntries(found.filter((entry): entry is [string, string] => entry[1] !== null));
}

function problemWith(field: Field, value: string | boolean): string | null {
  if (field.kind === "choice") return field.choices.includes(String(value)) ? null : "Choose one of the options.";
  if (field.kind !== "number") return null;
  const typed = String(value).trim();
  const amount = Number(typed);
  if (typed === "" || !Number.isFinite(amount)) return "Enter a number.";
  if (field.integer && !Number.isInteger(amount)) return "Enter a whole number.";
  const unit = field.unit && ` ${field.unit}`;
  if (field.minimum !== undefined && amount < field.minimum) return `Enter ${field.minimum}${unit} or more.`;
  if (field.maximum !== undefined && amount > field.maximum) return `Enter ${field.maximum}${unit} or less.`;
  return null;
}

/** The `parameters` of a run request. */
export function parametersFrom(
  fields: readonly Field[],
  values: Values,
  schema: ParameterSchema,
): Record<string, unknown> {
  return Object.fromEntries(
    fields.map((field) => {
      const value = values[field.name] ?? "";
      if (field.kind === "number") return [field.name, Number(value)];
      if (field.kind === "choice")
        return [field.name, schema.properties?.[field.name]?.enum?.find((choice) => String(choice) === value)];
      return [field.name, value];
    }),
  );
}
