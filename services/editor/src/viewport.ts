// The 3D view: one head, or a head and the one it came from, under one camera.

import type { Head, View } from "./api";
import { type Orbit, OrbitCamera, control } from "./camera";
import { button, h } from "./dom";
import { HeadView, type Source } from "./headview";

export type Comparing = "off" | "side" | "split";

const VIEWS: [string, string, number, number][] = [
  ["Front", "Front", 0, 0],
  ["Three-quarter left", "¾ L", 40, 0],
  ["Three-quarter right", "¾ R", -40, 0],
  ["Left profile", "Left", 90, 0],
  ["Right profile", "Right", -90, 0],
  ["Back", "Back", 180, 0],
  ["Above", "Top", 0, 60],
];
const TURN_S = 12; // of a full turn

export class Viewport {
  readonly element: HTMLElement;
  readonly camera: OrbitCamera;
  readonly stage = h("div", {
    class: "stage", tabindex: 0, role: "application",
    "aria-label": "3D head. Arrow keys turn it, Shift with arrow keys moves it, plus and minus zoom, double click resets.",
  });
  readonly main: HeadView;
  private parentView: HeadView | null = null;
  private readonly status = h("div", { class: "status", role: "status", hidden: true });
  private readonly handle: HTMLElement;
  private readonly compareButtons: Record<Comparing, HTMLButtonElement>;
  private readonly turnButton: HTMLButtonElement;
  private readonly viewButtons: HTMLButtonElement[];
  private comparing: Comparing = "off";
  private before = "";
  private split = 50;
  private turning = 0;
  private source: Source;

  constructor(home: Orbit, private readonly onError: (error: Error) => void) {
    this.camera = new OrbitCamera(home);
    this.source = (localStorage.getItem("headlift.source") as Source | null) ?? "auto";
    this.main = new HeadView(this.camera, this.source, onError);
    this.main.element.classList.add("after");
    this.handle = this.makeHandle();
    this.stage.append(this.main.element, this.status);
    control(this.stage, this.camera, () => {
      this.stopTurning();
      this.moved();
    });
    this.viewButtons = VIEWS.map(([name, short, yaw, pitch]) => h("button", {
      type: "button", class: "button small", "aria-label": `View: ${name}`, title: name,
      onclick: () => this.fly(yaw, pitch),
    }, short));
    this.turnButton = button({ icon: "turn", label: "Turntable", key: "T", "aria-pressed": "false", onclick: () => this.toggleTurning() });
    const compare = (mode: Comparing, drawn: string, label: string) =>
      button({ icon: drawn, label, "aria-pressed": String(mode === "off"), onclick: () => this.compare(this.comparing === mode ? "off" : mode) });
    this.compareButtons = {
      off: compare("off", "picture", "Only this head"),
      side: compare("side", "compare", "Side by side with the parent"),
      split: compare("split", "split", "Split with the parent"),
    };
    const source = h("select", { class: "select", "aria-label": "Who draws while the camera moves", title: "Who draws while the camera moves",
      onchange: () => this.prefer(source.value as Source) },
      h("option", { value: "auto" }, "Auto"), h("option", { value: "here" }, "This device"), h("option", { value: "server" }, "Server"));
    source.value = this.source;
    this.element = h("section", { class: "panel viewport", "aria-label": "3D view" },
      this.stage,
      h("div", { class: "bar" },
        h("div", { class: "group", role: "group", "aria-label": "Views" }, ...this.viewButtons),
        h("div", { class: "group", role: "group", "aria-label": "Motion" }, this.turnButton),
        h("div", { class: "group", role: "group", "aria-label": "Compare" }, ...Object.values(this.compareButtons)),
        h("div", { class: "spacer" }), source));
    this.setBefore("");
  }

  /** Show a head, and keep its parent at hand for comparing. False: another one was asked for meanwhile. */
  async show(head: Head, before: string): Promise<boolean> {
    const shown = await this.main.show(head.id);
    if (shown) this.setBefore(before);
    return shown;
  }

  clear(): void {
    this.stopTurning();
    this.compare("off");
    this.main.clear();
    this.setBefore("");
  }

  showStatus(text: string, busy = false): void {
    this.status.hidden = !text;
    this.status.textContent = text;
    this.status.classList.toggle("busy", busy);
  }

  get view(): View {
    return this.camera.view();
  }

  fly(yaw: number, pitch: number): void {
    this.stopTurning();
    const from = { yaw: this.camera.yaw, pitch: this.camera.pitch, distance: this.camera.distance, target: [...this.camera.target] };
    const turn = ((yaw - from.yaw + 540) % 360) - 180;
    const begin = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || this.main.streamed;
    const step = (now: number) => {
      const t = still ? 1 : Math.min(1, (now - begin) / 450);
      const eased = t * t * (3 - 2 * t);
      this.camera.setView(from.yaw + turn * eased, from.pitch + (pitch - from.pitch) * eased);
      this.camera.distance = from.distance + (this.camera.home.distance - from.distance) * eased;
      this.camera.target = this.camera.home.center.map((c, i) => from.target[i] + (c - from.target[i]) * eased) as [number, number, number];
      this.camera.rotate(0, 0);
      this.moved();
      if (t < 1) this.turning = requestAnimationFrame(step);
      else this.turning = 0;
    };
    this.turning = requestAnimationFrame(step);
  }

  toggleTurning(): void {
    if (this.turnButton.getAttribute("aria-pressed") === "true") return this.stopTurning();
    this.stopTurning();
    this.turnButton.setAttribute("aria-pressed", "true");
    let last = performance.now();
    const step = (now: number) => {
      this.camera.rotate(((now - last) / 1000 / TURN_S) * 360, 0);
      last = now;
      this.moved();
      this.turning = requestAnimationFrame(step);
    };
    this.turning = requestAnimationFrame(step);
  }

  private stopTurning(): void {
    cancelAnimationFrame(this.turning);
    this.turning = 0;
    this.turnButton?.setAttribute("aria-pressed", "false");
  }

  private moved(): void {
    this.main.moved();
    this.parentView?.moved();
  }

  private prefer(source: Source): void {
    this.source = source;
    localStorage.setItem("headlift.source", source);
    this.main.prefer(source);
    this.parentView?.prefer(source);
  }

  compare(mode: Comparing): void {
    if (mode !== "off" && !this.before) return;
    this.comparing = mode;
    for (const [name, one] of Object.entries(this.compareButtons)) one.setAttribute("aria-pressed", String(name === mode));
    this.stage.dataset.compare = mode;
    if (mode === "off") {
      this.parentView?.dispose();
      this.parentView = null;
      this.handle.remove();
      this.main.element.style.clipPath = "";
    } else {
      if (!this.parentView) {
        this.parentView = new HeadView(this.camera, this.source, this.onError);
        this.parentView.element.classList.add("before");
        this.stage.prepend(this.parentView.element);
      }
      this.parentView.show(this.before).catch(this.onError);
      if (mode === "split") this.stage.append(this.handle);
      else this.handle.remove();
      this.place(this.split);
    }
    this.moved();
  }

  private setBefore(before: string): void {
    this.before = before;
    this.compareButtons.side.disabled = this.compareButtons.split.disabled = !before;
    if (this.comparing !== "off") this.compare(before ? this.comparing : "off");
  }

  private place(split: number): void {
    this.split = Math.max(2, Math.min(98, split));
    this.main.element.style.clipPath = this.comparing === "split" ? `inset(0 0 0 ${this.split}%)` : "";
    this.handle.style.left = `${this.split}%`;
    this.handle.setAttribute("aria-valuenow", String(Math.round(this.split)));
  }

  private makeHandle(): HTMLElement {
    const handle = h("div", {
      class: "split-handle", role: "slider", tabindex: 0, "aria-label": "Where before ends and after begins",
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 50, "aria-orientation": "horizontal",
    });
    const drag = (e: PointerEvent) => {
      const box = this.stage.getBoundingClientRect();
      this.place(((e.clientX - box.left) / box.width) * 100);
    };
    handle.addEventListener("pointerdown", (e) => {
      e.stopPropagation();
      handle.setPointerCapture(e.pointerId);
    });
    handle.addEventListener("pointermove", (e) => {
      if (handle.hasPointerCapture(e.pointerId)) drag(e);
    });
    handle.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -2, ArrowRight: 2 }[e.key];
      if (!step) return;
      e.preventDefault();
      e.stopPropagation();
      this.place(this.split + step);
    });
    return handle;
  }
}
