// The map with its tools and its palette.

import { button, h } from "./dom";
import { BY_ID, LABELS } from "./labels";
import { MapView, type Tool } from "./mapview";

const TOOLS: [Tool, string, string][] = [
  ["brush", "Brush", "B"],
  ["eraser", "Eraser: back to what was there", "E"],
  ["fill", "Fill", "G"],
  ["lasso", "Lasso", "L"],
  ["dropper", "Pick a label", "I"],
];
const SIZE_MAX = 80;

export class MapPanel {
  readonly element: HTMLElement;
  readonly view: MapView;
  private readonly fields = h("fieldset", { class: "plain map-fields" });
  private readonly note = h("p", { class: "note", hidden: true });
  private readonly tools = new Map<Tool, HTMLButtonElement>();
  private readonly swatches = new Map<number, HTMLButtonElement>();
  private readonly mirror: HTMLButtonElement;
  private readonly size: HTMLInputElement;
  private lastTool: Tool = "brush";

  constructor(events: { painted(labels: Uint8Array<ArrayBuffer>): void; painting(): void }) {
    this.view = new MapView({ ...events, picked: (label) => { this.pick(label); this.use(this.lastTool); } });
    for (const [tool, label, key] of TOOLS)
      this.tools.set(tool, button({ icon: tool, label, key, class: "tool", "aria-pressed": "false", onclick: () => this.use(tool) }));
    this.mirror = button({ icon: "mirror", label: "Mirror", key: "M", class: "tool", "aria-pressed": "false", onclick: () => this.toggleMirror() });
    this.size = this.range("Size", 1, SIZE_MAX, this.view.size, (v) => { this.view.size = v; });
    const opacity = this.range("Opacity", 10, 100, 100, (v) => { this.view.opacity = v / 100; });
    const overlay = this.range("Overlay", 0, 100, this.view.overlay * 100, (v) => { this.view.overlay = v / 100; this.view.refresh(); });
    for (const label of LABELS) {
      const dot = h("span", { class: "dot", "aria-hidden": "true" });
      dot.style.background = label.color;
      this.swatches.set(label.id, h("button", {
        type: "button", class: "swatch", "aria-pressed": "false", "aria-label": label.name, title: `${label.name} (${label.key.replace("⇧", "Shift ")})`,
        onclick: () => { this.pick(label.id); if (this.view.tool === "eraser" || this.view.tool === "dropper") this.use("brush"); },
      }, dot, h("span", { class: "name" }, label.short), h("kbd", { "aria-hidden": "true" }, label.key)));
    }
    const row = (name: string, input: HTMLInputElement) => h("label", { class: "mini" }, h("span", {}, name), input);
    this.fields.append(
      h("div", { class: "tools", role: "toolbar", "aria-label": "Tools" }, ...this.tools.values(), this.mirror,
        button({ icon: "plus", label: "Zoom in", class: "tool", onclick: () => this.view.zoomBy(1.5) }),
        button({ icon: "reset", label: "Fit the map", class: "tool", onclick: () => this.view.fit() })),
      h("div", { class: "canvas-column" },
        this.view.element,
        h("div", { class: "sliders" }, row("Size", this.size), row("Opacity", opacity), row("Overlay", overlay))),
      h("div", { class: "palette", role: "group", "aria-label": "Labels" }, ...this.swatches.values()),
    );
    this.element = h("section", { class: "panel map", "aria-label": "Map" }, this.note, this.fields);
    this.use("brush");
    this.pick(this.view.label);
    this.disable("");
  }

  disable(why: string): void {
    this.fields.disabled = Boolean(why);
    this.note.hidden = !why;
    this.note.textContent = why;
    this.view.canvas.tabIndex = why ? -1 : 0;
    this.element.classList.toggle("off", Boolean(why));
  }

  get disabled(): boolean {
    return this.fields.disabled;
  }

  use(tool: Tool): void {
    if (this.view.tool !== "dropper") this.lastTool = this.view.tool;
    this.view.tool = tool;
    for (const [name, one] of this.tools) one.setAttribute("aria-pressed", String(name === tool));
  }

  pick(label: number): void {
    this.view.label = label;
    for (const [id, one] of this.swatches) one.setAttribute("aria-pressed", String(id === label));
    this.view.element.title = "";
    this.view.canvas.dataset.label = BY_ID.get(label)!.name;
  }

  toggleMirror(): void {
    this.view.mirror = !this.view.mirror;
    this.mirror.setAttribute("aria-pressed", String(this.view.mirror));
    this.view.refresh();
  }

  resize(step: number): void {
    this.view.size = Math.max(1, Math.min(SIZE_MAX, Math.round(this.view.size * (step > 0 ? 1.2 : 0.83) + (step > 0 ? 0.5 : -0.5))));
    this.size.value = String(this.view.size);
    this.view.refresh();
  }

  private range(name: string, min: number, max: number, value: number, changed: (value: number) => void): HTMLInputElement {
    const input: HTMLInputElement = h("input", { type: "range", min, max, value, "aria-label": name, oninput: () => changed(Number(input.value)) });
    return input;
  }
}
