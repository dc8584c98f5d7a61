import { type SubmitEvent, useState } from "react";
import { ApiError, signIn } from "../api";
import { Mark } from "../components/Mark";
import { useTitle } from "../hooks";

export function SignInPage() {
  useTitle("Sign in");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const expired = new URLSearchParams(location.search).get("signin") === "expired";

  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget).get("token") ?? "").trim();
    setBusy(true);
    try {
      await signIn(token);
      location.assign(location.pathname);
    } catch (error) {
      const refused = error instanceof ApiError && error.status < 500;
      setProblem(
        refused ? "This token is not valid, or it has expired." : "The gateway cannot be reached. Try again shortly.",
      );
      setBusy(false);
    }
  };

  return (
    <main className="sign-in" id="main">
      <Mark />
      <h1>Sign in to Isthmus</h1>
      {expired && (
        <p className="problem" role="alert">
          This link was used before, or it has expired.
        </p>
      )}
      <p>
        Open the one-time link that <code>isthmus serve</code> printed when it started. It works once.
      </p>
      <form onSubmit={submit}>
        <label htmlFor="token">Or enter an access token</label>
        <input
          id="token"
          name="token"
          type="password"
          autoComplete="current-password"
          required
          aria-invalid={problem !== ""}
          aria-describedby="token-help"
        />
        <p id="token-help" className={problem ? "problem" : "help"} role={problem ? "alert" : undefined}>
          {problem || (
            <>
              Whoever runs the gateway makes one with <code>isthmus token create</code>.
            </>
          )}
        </p>
        <button type="submit" className="button button-main" disabled={busy}>
          Sign in
        </button>
      </form>
    </main>
  );
}
