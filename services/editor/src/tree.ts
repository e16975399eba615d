// All kept heads as a tree: portraits, and what was made of them.

import { type Head, thumbnailUrl } from "./api";
import { button, h } from "./dom";

export const idOf = (name: string): string => name.slice(name.lastIndexOf("/") + 1);

/** What a head is, in a few words. */
export function titleOf(head: Head): string {
  const edit = head.edits?.at(-1);
  if (!edit) return "Portrait";
  const words = edit.style?.terms?.map((t) => t.text ?? "").find(Boolean);
  const painted = edit.map || edit.strokes;
  if (words) return painted ? `${words}, painted` : words;
  if (edit.style) return painted ? "Reference style, painted" : "Reference style";
  return "Painted";
}

export interface Row {
  head: Head;
  depth: number;
}

/** Parents before children, in order of making; a head whose parent is gone stands at the left. */
export function rows(heads: Head[]): Row[] {
  const known = new Set(heads.map((h) => h.id));
  const children = new Map<string, Head[]>();
  for (const head of heads) {
    const parent = known.has(idOf(head.parent)) ? idOf(head.parent) : "";
    children.set(parent, [...(children.get(parent) ?? []), head]);
  }
  const found: Row[] = [];
  const add = (parent: string, depth: number) => {
    for (const head of children.get(parent) ?? []) {
      found.push({ head, depth });
      add(head.id, depth + 1);
    }
  };
  add("", 0);
  return found;
}

export class Tree {
  readonly element: HTMLElement;
  private readonly list = h("ul", { class: "tree" });
  private shown = "";

  constructor(private readonly events: { open(head: Head): void; remove(head: Head): void }) {
    this.element = h("section", { class: "panel card history", "aria-label": "History" }, h("h2", {}, "History"), this.list);
  }

  show(heads: Head[], current: string): void {
    const key = [current, ...heads.map((h) => h.id)].join();
    if (key === this.shown) return;
    this.shown = key;
    this.list.replaceChildren(...rows(heads).map(({ head, depth }) => {
      const title = titleOf(head);
      const when = new Date(head.create_time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      const row = h("li", { class: "row", "data-depth": Math.min(depth, 5) },
        h("button", { type: "button", class: "open", "aria-current": head.id === current ? "true" : undefined, onclick: () => this.events.open(head) },
          h("img", { src: thumbnailUrl(head.id), alt: "", width: 44, height: 44, loading: "lazy" }),
          h("span", { class: "row-text" }, h("span", { class: "title" }, title), h("span", { class: "faint" }, when))),
        button({ icon: "trash", label: `Delete “${title}”`, class: "quiet remove", onclick: () => this.events.remove(head) }));
      return row;
    }));
  }
}
