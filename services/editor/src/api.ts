// The gateway, as functions. Everything throws ApiError with a message for people.

export interface Head {
  id: string;
  name: string;
  parent: string;
  origin: string;
  create_time: string;
  gaussian_count: number;
  refine_steps: number;
  quality?: { score: number; reasons: string[] };
  edits?: Edit[];
  stage_timings: { stage: string; duration_ms: number; cached: boolean }[];
}
export interface Edit {
  map?: unknown;
  strokes?: unknown;
  style?: { terms: { text?: string; embedding?: unknown }[] };
}
export interface SessionInfo {
  version: string;
  asks_for_key: boolean;
  signed_in: boolean;
  sample: boolean;
  picture_bytes_max: number;
  picture_types: string[];
  camera: { center: [number, number, number]; distance_m: number; fov_deg: number };
}
export interface LabelMap {
  side: number;
  labels: Uint8Array<ArrayBuffer>;
  portrait: Blob | null;
  origin: string;
}
export interface Embedding {
  data: string;
  fingerprint: string;
}
export type Term = { weight: number } & ({ text: string } | { embedding: Embedding });
export interface View {
  view_matrix: number[];
  fov_deg: number;
}

export class ApiError extends Error {
  constructor(
    message: string,
    readonly reason: string,
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

const UNREACHABLE = "The server cannot be reached. Check that it is running, then try again.";

async function request(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  headers.set("x-headlift", "1"); // no page of another origin can send this
  let answer: Response;
  try {
    answer = await fetch(`api/${path}`, { ...options, headers });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE, "UNREACHABLE");
  }
  if (!answer.ok) throw apiError(await answer.json().catch(() => null), answer.status);
  return answer;
}

function apiError(body: { error?: { message: string; reason: string; retry_after_s?: number } } | null, status = 0): ApiError {
  const error = body?.error;
  if (!error) return new ApiError(`The server answered with an error (${status}).`, "HTTP");
  return new ApiError(error.message, error.reason, error.retry_after_s);
}

const json = async <T>(path: string, options?: RequestInit): Promise<T> => (await request(path, options)).json() as Promise<T>;
const postJson = (body: unknown, signal?: AbortSignal): RequestInit => ({
  method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal,
});

export const session = () => json<SessionInfo>("session");
export const signIn = (key: string) => json<SessionInfo>("session", postJson({ key }));
export const signOut = () => request("session", { method: "DELETE" });
export const deleteData = () => request("data", { method: "DELETE" });
export const sample = async () => (await request("sample")).blob();
export const listHeads = async () => (await json<{ heads: Head[] }>("heads")).heads;
export const deleteHead = (id: string) => request(`heads/${id}`, { method: "DELETE" });
export const splat = async (id: string, signal?: AbortSignal) => (await request(`heads/${id}/splat`, { signal })).arrayBuffer();
export const thumbnailUrl = (id: string) => `api/heads/${id}/thumbnail?side=112`;
export const exported = async (id: string, kind: string) => (await request(`heads/${id}/export/${kind}`)).blob();
export const turntable = async (id: string) => (await request(`heads/${id}/turntable?frames=120&side=720`)).blob();

export async function picture(id: string, view: View, side: number, alpha: boolean): Promise<Blob> {
  const options = postJson({ ...view, width: side, height: side, alpha });
  return (await request(`heads/${id}/render`, { ...options, headers: { ...options.headers, accept: "image/png" } })).blob();
}

/** Upload a portrait; `onStage` gets every stage as it begins, with the share of it that is done. */
export async function createHead(file: Blob, onStage: (stage: string, share: number) => void, signal: AbortSignal): Promise<Head> {
  const answer = await request("heads", {
    method: "POST", body: file, signal,
    headers: { "content-type": file.type || "image/jpeg", accept: "text/event-stream" },
  });
  for await (const { name, data } of events(answer)) {
    if (name === "stage") onStage(data.stage, data.share);
    if (name === "head") return data as Head;
    if (name === "error") throw apiError({ error: data });
  }
  throw new ApiError("The connection broke before the head was ready; try again.", "BROKEN");
}

async function* events(answer: Response): AsyncGenerator<{ name: string; data: any }> {
  let text = "";
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name: string) => lines.find((l) => l.startsWith(`${name}: `))?.slice(name.length + 2) ?? "";
      yield { name: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

export async function labelMap(id: string, signal?: AbortSignal): Promise<LabelMap> {
  const map = await json<{ side: number; labels: string; portrait: string; origin: string; missing?: string }>(`heads/${id}/map`, { signal });
  if (map.missing) throw new ApiError(map.missing, "MISSING_WEIGHTS");
  const portrait = map.portrait ? new Blob([fromBase64(map.portrait)], { type: "image/png" }) : null;
  return { side: map.side, labels: fromBase64(map.labels), portrait, origin: map.origin };
}

export const embedPicture = (file: Blob) =>
  json<{ embedding: Embedding }>("styles", { method: "POST", body: file, headers: { "content-type": file.type || "image/jpeg" } });

/** Edit a head: `labels` with 255 for what stays, or null; `terms` null leaves the style. */
export function edit(
  id: string, labels: Uint8Array | null, terms: Term[] | null, strength: number, keepMap: boolean, signal: AbortSignal,
): Promise<{ head: Head; ignored_words: string[] }> {
  const body = { labels: labels ? toBase64(labels) : null, style: terms ? { terms } : null, strength, keep_map: keepMap };
  return json(`heads/${id}/edits`, postJson(body, signal));
}

/** Views rendered by the server, the newest viewpoint first. `onImage` gets images; `onClose` is called once. */
export class Live {
  private readonly socket: WebSocket;
  private pending: string | null = null;
  private sequence = 0;

  constructor(id: string, [width, height]: [number, number], onImage: (image: Blob, sequence: number) => void, onClose: (error: ApiError | null) => void) {
    const at = new URL(`api/heads/${id}/live`, location.href);
    at.protocol = at.protocol.replace("http", "ws");
    this.socket = new WebSocket(at);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.socket.send(JSON.stringify({ width, height }));
      if (this.pending) this.socket.send(this.pending);
    };
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        const body = JSON.parse(data);
        if (body.error) this.error = apiError(body);
      } else onImage(new Blob([new Uint8Array(data, 4)], { type: "image/webp" }), new DataView(data).getUint32(0, true));
    };
    this.socket.onclose = () => onClose(this.error);
  }

  private error: ApiError | null = null;

  /** Ask for a view; its sequence comes back with the picture. */
  request(view: View): number {
    const message = JSON.stringify({ ...view, sequence: ++this.sequence });
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
    else this.pending = message;
    return this.sequence;
  }

  close(): void {
    this.socket.onclose = null;
    this.socket.close();
  }
}

const fromBase64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
