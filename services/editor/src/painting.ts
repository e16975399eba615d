// Drawing into a label map; plain functions on Uint8Array [side * side], without a canvas.

import { BY_ID } from "./labels";

export interface Map2D {
  side: number;
  labels: Uint8Array<ArrayBuffer>;
}
export interface Point {
  x: number;
  y: number;
}
/** What is drawn at a pixel: a label, or the label of another map. */
export type Paint = { label: number } | { from: Uint8Array };

export interface Brush {
  paint: Paint;
  radius: number; // pixels of the map
  opacity: number; // share of the pixels that are painted, spread evenly: labels cannot be half of something
  mirror: number | null; // the axis, x in pixels
}

// Bayer's 8 x 8 order: any share of it is spread evenly.
const BAYER = Array.from({ length: 64 }, (_, i) => {
  let [x, y, value] = [i % 8, i >> 3, 0];
  for (let bit = 0; bit < 3; bit++, x >>= 1, y >>= 1) value = (value << 2) | (((x ^ y) & 1) << 1) | (y & 1);
  return (value + 0.5) / 64;
});

const mirrored = (paint: Paint): Paint => ("label" in paint ? { label: BY_ID.get(paint.label)!.mirror } : paint);

function setLabel(map: Map2D, x: number, y: number, paint: Paint): void {
  const at = y * map.side + x;
  map.labels[at] = "label" in paint ? paint.label : paint.from[at];
}

/** A line with round ends from a to b; one point where they are the same. */
export function drawLine(map: Map2D, a: Point, b: Point, brush: Brush): void {
  line(map, a, b, brush.radius, brush.opacity, brush.paint);
  if (brush.mirror !== null) {
    const flip = (p: Point) => ({ x: 2 * brush.mirror! - p.x, y: p.y });
    line(map, flip(a), flip(b), brush.radius, brush.opacity, mirrored(brush.paint));
  }
}

function line(map: Map2D, a: Point, b: Point, radius: number, opacity: number, paint: Paint): void {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const squared = dx * dx + dy * dy;
  const bound = (v: number) => Math.max(0, Math.min(map.side - 1, v));
  const [left, right] = [bound(Math.floor(Math.min(a.x, b.x) - radius)), bound(Math.ceil(Math.max(a.x, b.x) + radius))];
  const [top, bottom] = [bound(Math.floor(Math.min(a.y, b.y) - radius)), bound(Math.ceil(Math.max(a.y, b.y) + radius))];
  for (let y = top; y <= bottom; y++)
    for (let x = left; x <= right; x++) {
      const [px, py] = [x + 0.5 - a.x, y + 0.5 - a.y];
      const t = squared ? Math.max(0, Math.min(1, (px * dx + py * dy) / squared)) : 0;
      const inside = Math.hypot(px - t * dx, py - t * dy) <= Math.max(radius, 0.5);
      if (inside && BAYER[(y & 7) * 8 + (x & 7)] < opacity) setLabel(map, x, y, paint);
    }
}

/** All inside a polygon that closes by itself (even-odd). */
export function drawArea(map: Map2D, points: Point[], brush: Brush): void {
  area(map, points, brush.opacity, brush.paint);
  if (brush.mirror !== null)
    area(map, points.map((p) => ({ x: 2 * brush.mirror! - p.x, y: p.y })), brush.opacity, mirrored(brush.paint));
}

function area(map: Map2D, points: Point[], opacity: number, paint: Paint): void {
  for (let y = 0; y < map.side; y++) {
    const crossings: number[] = [];
    points.forEach((a, i) => {
      const b = points[(i + 1) % points.length];
      if (a.y <= y + 0.5 !== b.y <= y + 0.5) crossings.push(a.x + ((y + 0.5 - a.y) / (b.y - a.y)) * (b.x - a.x));
    });
    crossings.sort((p, q) => p - q);
    for (let i = 0; i + 1 < crossings.length; i += 2)
      for (let x = Math.max(0, Math.ceil(crossings[i] - 0.5)); x + 0.5 < crossings[i + 1] && x < map.side; x++)
        if (BAYER[(y & 7) * 8 + (x & 7)] < opacity) setLabel(map, x, y, paint);
  }
}

/** All that is connected with a point and has its label (four neighbours). */
export function drawFill(map: Map2D, at: Point, brush: Brush): void {
  fill(map, at, brush.paint);
  if (brush.mirror !== null) fill(map, { x: 2 * brush.mirror - at.x, y: at.y }, mirrored(brush.paint));
}

function fill(map: Map2D, at: Point, paint: Paint): void {
  const { side, labels } = map;
  const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
  if (x < 0 || y < 0 || x >= side || y >= side) return;
  const found = labels[y * side + x];
  const inside = new Uint8Array(labels.length);
  const todo = [y * side + x];
  while (todo.length) {
    const i = todo.pop()!;
    if (inside[i] || labels[i] !== found) continue;
    inside[i] = 1;
    const column = i % side;
    if (column > 0) todo.push(i - 1);
    if (column < side - 1) todo.push(i + 1);
    if (i >= side) todo.push(i - side);
    if (i < labels.length - side) todo.push(i + side);
  }
  for (let i = 0; i < labels.length; i++) if (inside[i]) setLabel(map, i % side, Math.floor(i / side), paint);
}

/** Where the face's middle runs, x in pixels: the mean of face and nose. */
export function symmetryAxis(map: Map2D): number {
  let [sum, count] = [0, 0];
  map.labels.forEach((label, i) => {
    if (label === 2 || label === 10) {
      sum += (i % map.side) + 0.5;
      count++;
    }
  });
  return count ? sum / count : map.side / 2;
}

export const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((v, i) => v === b[i]);

/** What changed, and 255 where nothing did; null where nothing did at all. */
export function difference(before: Uint8Array, after: Uint8Array): Uint8Array | null {
  return same(before, after) ? null : after.map((v, i) => (v === before[i] ? 255 : v));
}
