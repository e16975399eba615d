// Autosave: unfinished edits are stored in this browser until they are kept or deleted.

import type { Embedding } from "./api";

export interface Reference {
  embedding: Embedding;
  thumbnail: string; // a small data URL
}
export interface Style {
  prompt: string;
  reference: Reference | null;
  mix: number; // share of the reference, 0..1
  strength: number; // 0..1
  keepMap?: boolean; // words change no shapes
}
export interface Work {
  labels: Uint8Array<ArrayBuffer>;
  style: Style;
}
export interface Draft {
  head: string;
  work: Work;
}

export const NO_STYLE: Style = { prompt: "", reference: null, mix: 0.5, strength: 1 };

const NAME = "headlift";
const STORE = "drafts";
const PROMPTS = "headlift.prompts";
const PROMPTS_MAX = 12;

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "head" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function within<T>(mode: IDBTransactionMode, run: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
  try {
    const database = await open();
    return await new Promise<T>((resolve, reject) => {
      const request = run(database.transaction(STORE, mode).objectStore(STORE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    }).finally(() => database.close());
  } catch {
    return undefined; // private windows may refuse; then there is no autosave
  }
}

export const saveDraft = (draft: Draft) => within("readwrite", (s) => s.put(draft));
export const loadDraft = (head: string) => within<Draft | undefined>("readonly", (s) => s.get(head));
export const dropDraft = (head: string) => within("readwrite", (s) => s.delete(head));

/** Delete everything that this browser stores. */
export async function deleteAll(): Promise<void> {
  await within("readwrite", (s) => s.clear());
  localStorage.clear();
  sessionStorage.clear();
}

export function prompts(): string[] {
  try {
    return JSON.parse(localStorage.getItem(PROMPTS) ?? "[]");
  } catch {
    return [];
  }
}

export function savePrompt(prompt: string): void {
  const rest = prompts().filter((p) => p !== prompt);
  localStorage.setItem(PROMPTS, JSON.stringify([prompt, ...rest].slice(0, PROMPTS_MAX)));
}
