// The map over the portrait, and the tools that paint on it.

import { h } from "./dom";
import { COLORS } from "./labels";
import { type Brush, type Map2D, type Point, drawArea, drawFill, drawLine, same, symmetryAxis } from "./painting";

export type Tool = "brush" | "eraser" | "fill" | "lasso" | "dropper";

export interface MapViewEvents {
  painted(labels: Uint8Array<ArrayBuffer>): void; // a stroke is finished
  painting(): void; // a stroke has begun: what is being computed is out of date
  picked(label: number): void;
}

const ZOOM_MAX = 12;

export class MapView {
  readonly element: HTMLElement;
  readonly canvas = h("canvas", {
    tabindex: 0, role: "application", "aria-label": "Label map. Arrow keys move the cursor, Enter paints, plus and minus zoom.",
    "aria-roledescription": "paintable map",
  });
  tool: Tool = "brush";
  label = 14;
  size = 14; // diameter, pixels of a 256-pixel map
  opacity = 1;
  mirror = false;
  pressure = true;
  overlay = 0.55;
  /** Show the original map, while the key is pressed. */
  peek = false;

  private map: Map2D | null = null;
  private base: Uint8Array<ArrayBuffer> = new Uint8Array();
  private styled: Uint8Array | null = null; // the map as the style's words changed it
  private portrait: ImageBitmap | null = null;
  private readonly tinted = h("canvas");
  private axis = 0;
  private zoom = 1;
  private offset: Point = { x: 0, y: 0 };
  private cursor: Point | null = null;
  private stroke: { before: Uint8Array<ArrayBuffer>; last: Point; points: Point[] } | null = null;
  private readonly pointers = new Map<number, Point>();
  private pinched = false;
  private scheduled = false;
  spaceHeld = false;

  constructor(private readonly events: MapViewEvents) {
    this.element = h("div", { class: "mapview" }, this.canvas);
    new ResizeObserver(() => this.resize()).observe(this.element);
    this.listen();
  }

  /** Show a new map. `base` is what the eraser brings back. */
  load(map: Map2D, base: Uint8Array<ArrayBuffer>, portrait: ImageBitmap | null): void {
    this.map = { side: map.side, labels: map.labels.slice() };
    this.base = base;
    this.styled = null;
    this.portrait?.close();
    this.portrait = portrait;
    this.axis = symmetryAxis({ side: map.side, labels: base });
    this.tint();
  }

  unload(): void {
    this.map = null;
    this.draw();
  }

  /** Show other labels of the same map, after undo or redo. */
  set labels(labels: Uint8Array<ArrayBuffer>) {
    if (!this.map) return;
    this.map.labels = labels.slice();
    this.stroke = this.styled = null;
    this.tint();
  }

  /** Show the map as the style's words changed it; what is painted by hand lies on top. */
  showStyledLabels(labels: Uint8Array | null): void {
    this.styled = labels && labels.length === this.map?.labels.length ? labels : null;
    this.tint();
  }

  fit(): void {
    this.zoom = 1;
    this.offset = { x: 0, y: 0 };
    this.draw();
  }

  zoomBy(factor: number, at?: Point): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const middle = at ?? { x: width / 2, y: height / 2 };
    const next = Math.max(1, Math.min(ZOOM_MAX, this.zoom * factor));
    const ratio = next / this.zoom;
    this.offset = { x: (middle.x - width / 2) * (1 - ratio) + this.offset.x * ratio, y: (middle.y - height / 2) * (1 - ratio) + this.offset.y * ratio };
    this.zoom = next;
    this.bound();
    this.draw();
  }

  refresh(): void {
    this.tint();
  }

  // Where the map lies on the canvas: left, top, side; CSS pixels.
  private frame(): [number, number, number] {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const side = Math.min(width, height) * this.zoom;
    return [(width - side) / 2 + this.offset.x, (height - side) / 2 + this.offset.y, side];
  }

  private bound(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const side = Math.min(width, height) * this.zoom;
    const [mx, my] = [Math.max(0, (side - width) / 2), Math.max(0, (side - height) / 2)];
    this.offset = { x: Math.max(-mx, Math.min(mx, this.offset.x)), y: Math.max(-my, Math.min(my, this.offset.y)) };
  }

  private at(e: { clientX: number; clientY: number }): Point {
    const box = this.canvas.getBoundingClientRect();
    const [left, top, side] = this.frame();
    const scale = this.map!.side / side;
    return { x: (e.clientX - box.left - left) * scale, y: (e.clientY - box.top - top) * scale };
  }

  private brush(pressure: number): Brush {
    const scale = this.map!.side / 256;
    return {
      paint: this.tool === "eraser" ? { from: this.base } : { label: this.label },
      radius: (this.size / 2) * scale * pressure,
      opacity: this.opacity,
      mirror: this.mirror ? this.axis : null,
    };
  }

  private listen(): void {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (e) => {
      if (!this.map) return;
      canvas.setPointerCapture(e.pointerId);
      this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
      if (this.pointers.size > 1) this.cancelStroke();
      else if (e.button === 0 && !this.spaceHeld) this.down(this.at(e), this.pressed(e));
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!this.map) return;
      this.cursor = this.at(e);
      const last = this.pointers.get(e.pointerId);
      if (last) {
        if (this.pointers.size === 2) this.pinch(e);
        else if (this.spaceHeld || e.buttons & 4) this.shift(e.clientX - last.x, e.clientY - last.y);
        else if (this.stroke) for (const part of e.getCoalescedEvents?.() ?? [e]) this.move(this.at(part), this.pressed(part));
        this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
      }
      this.draw();
    });
    const up = (e: PointerEvent) => {
      this.pointers.delete(e.pointerId);
      if (!this.pointers.size) {
        if (!this.pinched) this.up();
        this.pinched = false;
      }
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", (e) => {
      this.cancelStroke();
      up(e);
    });
    canvas.addEventListener("pointerleave", () => {
      if (!this.pointers.size) this.cursor = null;
      this.draw();
    });
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.zoomBy(Math.exp(-Math.max(-60, Math.min(60, e.deltaY)) * 0.004), { x: e.clientX - box.left, y: e.clientY - box.top });
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("blur", () => {
      this.cursor = null;
      this.draw();
    });
  }

  private pressed(e: PointerEvent): number {
    return this.pressure && e.pointerType === "pen" && e.pressure > 0 ? 0.25 + 0.75 * e.pressure : 1;
  }

  private down(at: Point, pressure: number): void {
    const map = this.map!;
    if (this.tool === "dropper") {
      const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
      if (x >= 0 && y >= 0 && x < map.side && y < map.side) this.events.picked(map.labels[y * map.side + x]);
      return;
    }
    this.events.painting();
    this.stroke = { before: map.labels.slice(), last: at, points: [at] };
    if (this.tool === "fill") drawFill(map, at, this.brush(1));
    else if (this.tool !== "lasso") drawLine(map, at, at, this.brush(pressure));
    this.tint();
  }

  private move(at: Point, pressure: number): void {
    const stroke = this.stroke;
    if (!stroke || this.tool === "fill") return;
    if (this.tool === "lasso") stroke.points.push(at);
    else {
      drawLine(this.map!, stroke.last, at, this.brush(pressure));
      this.tint();
    }
    stroke.last = at;
  }

  private up(): void {
    const { stroke, map } = this;
    if (!stroke || !map) return;
    this.stroke = null;
    if (this.tool === "lasso" && stroke.points.length > 2) drawArea(map, stroke.points, this.brush(1));
    this.tint();
    if (!same(stroke.before, map.labels)) this.events.painted(map.labels.slice());
  }

  private cancelStroke(): void {
    this.pinched = true;
    if (this.stroke && this.map) this.map.labels = this.stroke.before;
    this.stroke = null;
    this.tint();
  }

  private shift(dx: number, dy: number): void {
    this.offset = { x: this.offset.x + dx, y: this.offset.y + dy };
    this.bound();
  }

  private pinch(e: PointerEvent): void {
    const pinch = () => {
      const [a, b] = [...this.pointers.values()];
      return { gap: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    const before = pinch();
    this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    const after = pinch();
    const box = this.canvas.getBoundingClientRect();
    this.shift(after.x - before.x, after.y - before.y);
    this.zoomBy(after.gap / before.gap, { x: after.x - box.left, y: after.y - box.top });
  }

  private key(e: KeyboardEvent): void {
    const map = this.map;
    if (!map || e.ctrlKey || e.metaKey || e.altKey) return;
    const step = (e.shiftKey ? 12 : 3) * (map.side / 256);
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key] ?? [0, 0];
    const at = this.cursor ?? { x: map.side / 2, y: map.side / 2 };
    if (dx || dy) this.cursor = { x: Math.max(0, Math.min(map.side, at.x + dx * step)), y: Math.max(0, Math.min(map.side, at.y + dy * step)) };
    else if (e.key === "Enter") {
      this.cursor = at;
      this.down(at, 1);
      this.up();
    } else if (e.key === "+" || e.key === "=") this.zoomBy(1.25);
    else if (e.key === "-") this.zoomBy(0.8);
    else return;
    e.preventDefault();
    e.stopPropagation();
    this.draw();
  }

  private resize(): void {
    const ratio = Math.min(devicePixelRatio, 2);
    this.canvas.width = Math.round(this.element.clientWidth * ratio);
    this.canvas.height = Math.round(this.element.clientHeight * ratio);
    this.bound();
    this.draw();
  }

  /** Colour the map; borders are stronger than what is inside them. */
  private tint(): void {
    const map = this.map;
    if (!map) return;
    const { side } = map;
    const { styled, base } = this;
    const labels = this.peek ? base : styled ? map.labels.map((label, i) => (label === base[i] ? styled[i] : label)) : map.labels;
    if (this.tinted.width !== side) this.tinted.width = this.tinted.height = side;
    const context = this.tinted.getContext("2d")!;
    const image = context.createImageData(side, side);
    const [inside, border] = [this.overlay * 255, Math.min(1, this.overlay * 1.6) * 255];
    for (let i = 0; i < labels.length; i++) {
      const l = labels[i];
      const edge = (i % side && labels[i - 1] !== l) || (i >= side && labels[i - side] !== l);
      const [r, g, b] = COLORS[l];
      image.data.set([r, g, b, l ? (edge ? border : inside) : edge ? border * 0.5 : 0], i * 4);
    }
    context.putImageData(image, 0, 0);
    this.draw();
  }

  private draw(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.paint();
    });
  }

  private paint(): void {
    const context = this.canvas.getContext("2d")!;
    const ratio = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const map = this.map;
    if (!map) return;
    const [left, top, side] = this.frame();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high";
    if (this.portrait) context.drawImage(this.portrait, left, top, side, side);
    context.imageSmoothingEnabled = this.zoom < 3;
    context.drawImage(this.tinted, left, top, side, side);
    context.imageSmoothingEnabled = true;
    const scale = side / map.side;
    context.translate(left, top);
    if (this.mirror) {
      context.setLineDash([4, 5]);
      context.strokeStyle = "rgba(255, 255, 255, 0.45)";
      context.beginPath();
      context.moveTo(this.axis * scale, 0);
      context.lineTo(this.axis * scale, side);
      context.stroke();
      context.setLineDash([]);
    }
    if (this.stroke && this.tool === "lasso") this.outline(context, scale);
    if (this.cursor && this.tool !== "lasso") this.ring(context, scale);
  }

  private outline(context: CanvasRenderingContext2D, scale: number): void {
    context.beginPath();
    for (const p of this.stroke!.points) context.lineTo(p.x * scale, p.y * scale);
    context.closePath();
    context.fillStyle = "rgba(255, 255, 255, 0.15)";
    context.fill();
    context.setLineDash([5, 4]);
    context.strokeStyle = "#fff";
    context.stroke();
    context.setLineDash([]);
  }

  private ring(context: CanvasRenderingContext2D, scale: number): void {
    const { x, y } = this.cursor!;
    const brush = this.tool === "brush" || this.tool === "eraser";
    const radius = brush ? Math.max(2, (this.size / 2) * (this.map!.side / 256) * scale) : 5;
    for (const [style, width] of [["rgba(0, 0, 0, 0.6)", 3], ["#fff", 1.25]] as const) {
      context.beginPath();
      context.arc(x * scale, y * scale, radius, 0, 2 * Math.PI);
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke();
    }
    context.lineWidth = 1;
  }
}
