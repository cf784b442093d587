// What a program in TypeScript writes against the API. `README` holds the bodies of the README's requests.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";
import { README } from "./readme";

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function main(): Promise<string | null> {
  for (const body of README) await api.POST("/v1/jobs", { body });
  await api.POST("/v1/jobs", { body: { kind: "prefix", bucket: "photos", prefix: "2024/" } });
  await api.POST("/v1/jobs", { body: { bucket: "photos" } });
  await api.POST("/v1/jobs", { body: { kind: "watch", source: "s3://photos/inbox/" } });
  await api.POST("/v1/jobs", { body: { kind: "list", bucket: "photos", keys: ["001.jpg"] } });
  await api.POST("/v1/watches", { body: { source: "s3://photos/inbox/", reconcile_seconds: 86400 } });
  await api.POST("/v1/reconciliations", { body: { bucket: "photos", dry_run: true } });
  await api.POST("/v1/jobs/{job_id}/retry", {
    params: { path: { job_id: "latest" } },
    body: { reasons: ["access_denied"] },
  });
  // @ts-expect-error a kind that does not exist
  await api.POST("/v1/jobs", { body: { kind: "zip", bucket: "photos" } });
  // @ts-expect-error a field that does not exist
  await api.POST("/v1/jobs", { body: { kind: "prefix", bucket: "photos", speed: 1 } });

  const job = await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: "latest" } } });
  const counts: { [state: string]: number } = job.data?.counts ?? {};
  const page = await api.GET("/v1/scores", { params: { query: { bucket: "photos", max: 0.3, worst: "5%" } } });
  const scores: components["schemas"]["ScoreOut"][] = page.data?.items ?? [];
  const band: "bad" | "poor" | "fair" | "good" | "excellent" | null = scores[0]?.band ?? null;
  const problem: string | undefined = page.error?.hint;
  return problem ?? band ?? String(counts.scored ?? 0);
}
