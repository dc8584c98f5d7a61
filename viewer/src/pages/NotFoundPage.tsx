import { BASE } from "../base";
import { useTitle } from "../hooks";

export function NotFoundPage() {
  useTitle("Not found");
  return (
    <main className="message" id="main">
      <h1>There is no such page</h1>
      <p>
        <a href={BASE}>All studies</a>
      </p>
    </main>
  );
}
