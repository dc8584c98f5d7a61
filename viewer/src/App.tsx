import { useEffect, useState } from "react";
import { getInfo } from "./api";
import { BASE } from "./base";
import { Header } from "./components/Header";
import { SIGNED_OUT, useResource } from "./hooks";
import { NotFoundPage } from "./pages/NotFoundPage";
import { SignInPage } from "./pages/SignInPage";
import { StudiesPage } from "./pages/StudiesPage";
import { StudyPage } from "./pages/StudyPage";
import { studyOf, useAddress } from "./router";

export function App() {
  const { path, query } = useAddress();
  const info = useResource(getInfo, []);
  const [signedOut, setSignedOut] = useState(false);
  useEffect(() => {
    const signOut = () => setSignedOut(true);
    addEventListener(SIGNED_OUT, signOut);
    return () => removeEventListener(SIGNED_OUT, signOut);
  }, []);

  if (signedOut) return <SignInPage />;
  const study = studyOf(path);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <Header info={info.data} />
      {path === BASE ? (
        <StudiesPage info={info.data} query={query} />
      ) : study ? (
        <StudyPage key={study} study={study} query={query} />
      ) : (
        <NotFoundPage />
      )}
    </>
  );
}
