// Elements without a framework: h() makes them, icon() draws them.

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, unknown>;

/** An element. Keys that begin with "on" are listeners; true and false set and leave out an attribute. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else if (name === "class") element.className = String(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((c): c is Node | string => c !== null && c !== undefined && c !== false));
  return element;
}

const PATHS: Record<string, string> = {
  upload: "M12 16V4m0 0L7 9m5-5 5 5M4 17v2a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-2",
  camera: "M4 8h3l2-3h6l2 3h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1Zm8 8.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7Z",
  star: "m12 4 2.400 5 5.600.700-4.100 3.900 1.100 5.500L12 16.400l-5 2.700 1.100-5.500L4 9.700 9.600 9 12 4Z",
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "m15 14 5-5-5-5m5 5H10a6 6 0 0 0 0 12h3",
  brush: "m14.500 4.500 5 5L11 18l-5 1 1-5 7.500-9.500ZM4 20h.01",
  eraser: "m8 20-4.500-4.500a1.500 1.500 0 0 1 0-2.100L13 4l7 7-9 9H8Zm0 0h12M9 8l7 7",
  fill: "m11 3-7.500 7.500a1.500 1.500 0 0 0 0 2.100L9 18a1.500 1.500 0 0 0 2.100 0L18.500 10.500 11 3Zm-7 9h14M20 15s2 2.500 2 3.800a2 2 0 0 1-4 0C18 17.500 20 15 20 15Z",
  lasso: "M12 5c5 0 9 2.200 9 5s-4 5-9 5c-1.500 0-3-.200-4.200-.600M7 14.500C4.600 13.600 3 11.900 3 10c0-2.800 4-5 9-5m-5 9.500a2 2 0 1 0-1.500 3.300c1 .700.500 2.200-.500 3.200",
  dropper: "m13 6 5 5M11 8l-6.500 6.500V18H8l6.500-6.500M14.500 4.500a2.100 2.100 0 0 1 3 0l2 2a2.100 2.100 0 0 1 0 3L17 12l-5-5 2.500-2.500Z",
  mirror: "M12 3v18M8 7l-5 5 5 5V7Zm8 0 5 5-5 5V7Z",
  hand: "M8 12V6.500a1.500 1.500 0 0 1 3 0V11m0-5.500a1.500 1.500 0 0 1 3 0V11m0-3.500a1.500 1.500 0 0 1 3 0V14a6 6 0 0 1-6 6c-3 0-4-1.500-6.500-5.500-1-1.600.8-2.800 2-1.600L8 14.500",
  compare: "M12 3v18M4 6h5v12H4zM15 6h5v12h-5z",
  split: "M12 3v18M5 5h14a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1Zm4 7H6m0 0 1.500-1.500M6 12l1.500 1.500M15 12h3m0 0-1.500-1.500M18 12l-1.500 1.500",
  turn: "M20 12a8 3.500 0 1 1-3-2.700M17 5.500v4h4",
  reset: "M4 4v5h5M20 20v-5h-5M5.500 15a7 7 0 0 0 12 2.500M18.500 9a7 7 0 0 0-12-2.500",
  download: "M12 4v12m0 0-5-5m5 5 5-5M4 17v2a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-2",
  trash: "M4 7h16M9 7V5a1 1 0 0 1 1-1h4a1 1 0 0 1 1 1v2m2 0-.700 12a1 1 0 0 1-1 1H8.700a1 1 0 0 1-1-1L7 7m3 4v5m4-5v5",
  close: "M6 6l12 12M18 6 6 18",
  check: "m5 12.500 4.500 4.500L19 7.500",
  plus: "M12 5v14M5 12h14",
  picture: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1Zm-1 12 4.500-4.500L13 16l2.500-2.500L20 18M15 9h.01",
  keyboard: "M3 7h18v10H3zM7 10h.01M11 10h.01M15 10h.01M17 13h.01M7 13h6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  eye: "M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12Zm9.500 3a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
  chevron: "m6 9 6 6 6-6",
  key: "M14.500 13a4.500 4.500 0 1 0-4.300-3.200L4 16v4h4v-2h2v-2h2l1-1.200c.5.100 1 .200 1.500.200ZM16 8h.01",
};

/** A line drawing, 24 units wide, that screen readers pass over. */
export function icon(name: string, size = 18): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24", width: size, height: size, fill: "none", stroke: "currentColor",
    "stroke-width": 1.75, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true",
  })) svg.setAttribute(key, String(value));
  return svg;
}

/** A button with an icon, a text or both; its label is its tooltip too. */
export function button(
  options: { icon?: string; text?: string; label?: string; class?: string; key?: string; onclick?: (e: MouseEvent) => void } & Attributes,
): HTMLButtonElement {
  const { icon: drawn, text, label, key, class: kind = "", ...rest } = options;
  const tip = label ? (key ? `${label} (${key})` : label) : undefined;
  return h(
    "button",
    { type: "button", class: `button ${kind}${text ? "" : " only-icon"}`, "aria-label": text ? undefined : label, title: tip, ...rest },
    drawn ? icon(drawn) : null,
    text ? h("span", {}, text) : null,
  );
}

/** Show `menu` below `anchor` while it is open; closes on Escape, on a click elsewhere, and when the focus leaves. */
export function dropdown(anchor: HTMLButtonElement, menu: HTMLElement): HTMLElement {
  const holder = h("div", { class: "dropdown" }, anchor, menu);
  menu.hidden = true;
  anchor.setAttribute("aria-haspopup", "true");
  anchor.setAttribute("aria-expanded", "false");
  const open = (on: boolean) => {
    menu.hidden = !on;
    anchor.setAttribute("aria-expanded", String(on));
    if (on) menu.querySelector<HTMLElement>("button:not(:disabled)")?.focus();
  };
  anchor.addEventListener("click", () => open(Boolean(menu.hidden)));
  menu.addEventListener("click", (e) => {
    if ((e.target as Element).closest("button")) open(false);
  });
  holder.addEventListener("keydown", (e) => {
    if (menu.hidden) return;
    const items = [...menu.querySelectorAll<HTMLElement>("button:not(:disabled)")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (e.key === "Escape") {
      open(false);
      anchor.focus();
    } else if (step && items.length) items[(at + step + items.length) % items.length].focus();
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  holder.addEventListener("focusout", (e) => {
    if (e.relatedTarget && !holder.contains(e.relatedTarget as Node)) open(false);
  });
  document.addEventListener("pointerdown", (e) => {
    if (!holder.contains(e.target as Node)) open(false);
  });
  return holder;
}

/** Wait `ms` after the last call. */
export function debounce(ms: number, run: () => void): { (): void; cancel(): void } {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = window.setTimeout(run, ms);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
