import "@fontsource-variable/inter";
import "./styles/base.css";
import "./styles/studies.css";
import "./styles/study.css";
import "./styles/runs.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";

createRoot(document.getElementById("app") as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
