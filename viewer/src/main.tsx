import "@fontsource-variable/inter";
import "./styles/base.css";
import "./styles/studies.css";
import "./styles/study.css";
import "./styles/runs.css";
import { render } from "preact";
import { App } from "./App";

render(<App />, document.getElementById("app") as HTMLElement);
