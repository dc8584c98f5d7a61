import type { Field, NumberField } from "../schema";

interface Props {
  id: string;
  field: Field;
  value: string | boolean;
  problem: string;
  onChange: (value: string | boolean) => void;
}

/** One parameter of a plugin with its control, its help, and what is wrong with its value. */
export function ParameterField({ id, field, value, problem, onChange }: Props) {
  const about = `${id}-about`;
  if (field.kind === "flag") {
    return (
      <div className="field field-flag">
        <input
          id={id}
          type="checkbox"
          checked={value === true}
          aria-describedby={about}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
        <label htmlFor={id}>{field.label}</label>
        <p className="help" id={about}>
          {field.help}
        </p>
      </div>
    );
  }
  return (
    <div className="field">
      <label className="field-label" htmlFor={id}>
        {field.label}
      </label>
      {field.kind === "number" && (
        <NumberControl
          id={id}
          about={about}
          field={field}
          value={String(value)}
          problem={problem}
          onChange={onChange}
        />
      )}
      {field.kind === "choice" && (
        <select
          id={id}
          value={String(value)}
          aria-describedby={about}
          aria-invalid={problem !== ""}
          onChange={(event) => onChange(event.currentTarget.value)}
        >
          {field.choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      )}
      {field.kind === "text" && (
        <input
          id={id}
          type="text"
          value={String(value)}
          aria-describedby={about}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      )}
      <p className={problem ? "problem" : "help"} id={about}>
        {problem || field.help}
      </p>
    </div>
  );
}

interface NumberProps {
  id: string;
  about: string;
  field: NumberField;
  value: string;
  problem: string;
  onChange: (value: string) => void;
}

function NumberControl({ id, about, field, value, problem, onChange }: NumberProps) {
  const limits = { min: field.minimum, max: field.maximum, step: field.step };
  return (
    <div className="number">
      {field.slider && (
        <input
          type="range"
          {...limits}
          value={Number(value)}
          aria-label={field.label}
          tabIndex={-1}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      )}
      <input
        id={id}
        type="number"
        inputMode={field.integer ? "numeric" : "decimal"}
        {...limits}
        value={value}
        aria-describedby={about}
        aria-invalid={problem !== ""}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
      {field.unit && <span className="number-unit">{field.unit}</span>}
    </div>
  );
}
