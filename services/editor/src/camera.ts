// A camera on a sphere around a movable target; angles in degrees, lengths in metres, as in the contract.

import type { View } from "./api";

export interface Orbit {
  center: [number, number, number];
  distance: number;
  fov: number;
}

const PITCH_MAX = 88;
const RAD = Math.PI / 180;

export class OrbitCamera {
  yaw = 0;
  pitch = 0;
  distance: number;
  target: [number, number, number];

  constructor(readonly home: Orbit) {
    this.distance = home.distance;
    this.target = [...home.center];
  }

  reset(): void {
    this.setView(0, 0);
  }

  /** View the whole head from this direction. */
  setView(yaw: number, pitch: number): void {
    this.yaw = yaw;
    this.pitch = pitch;
    this.distance = this.home.distance;
    this.target = [...this.home.center];
  }

  rotate(yaw: number, pitch: number): void {
    this.yaw = ((this.yaw + yaw + 540) % 360) - 180;
    this.pitch = Math.max(-PITCH_MAX, Math.min(PITCH_MAX, this.pitch + pitch));
  }

  zoom(factor: number): void {
    this.distance = Math.max(0.35, Math.min(6, this.distance * factor));
  }

  /** Move sideways by shares of the picture's height; what is under the pointer stays under it. */
  pan(right: number, up: number): void {
    const size = 2 * this.distance * Math.tan((this.home.fov / 2) * RAD);
    const [x, y] = this.axes();
    const limit = 0.25;
    for (let i = 0; i < 3; i++) {
      const moved = this.target[i] - (right * x[i] + up * y[i]) * size;
      const middle = this.home.center[i];
      this.target[i] = Math.max(middle - limit, Math.min(middle + limit, moved));
    }
  }

  /** Right, up and backward of the camera, in the head's frame. */
  axes(): [number[], number[], number[]] {
    const [sy, cy, sp, cp] = [Math.sin(this.yaw * RAD), Math.cos(this.yaw * RAD), Math.sin(this.pitch * RAD), Math.cos(this.pitch * RAD)];
    return [[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]];
  }

  get eye(): number[] {
    const back = this.axes()[2];
    return this.target.map((t, i) => t + back[i] * this.distance);
  }

  /** World to camera in OpenCV's axes (x right, y down, z forward), row by row. */
  view(): View {
    const [x, y, z] = this.axes();
    const eye = this.eye;
    const row = (axis: number[], sign: number) => {
      const r = axis.map((a) => a * sign);
      return [...r, -(r[0] * eye[0] + r[1] * eye[1] + r[2] * eye[2])];
    };
    return { view_matrix: [...row(x, 1), ...row(y, -1), ...row(z, -1), 0, 0, 0, 1], fov_deg: this.home.fov };
  }
}

/** Let pointers, wheel and keys move `camera`; `onMove` is called after each change. */
export function control(element: HTMLElement, camera: OrbitCamera, onMove: () => void): void {
  const pointers = new Map<number, { x: number; y: number }>();
  let pinchDistance = 0;

  element.addEventListener("pointerdown", (e) => {
    if ((e.target as Element).closest("button, input")) return;
    element.setPointerCapture(e.pointerId);
    pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    pinchDistance = 0;
    element.classList.add("dragging");
  });
  element.addEventListener("pointermove", (e) => {
    const last = pointers.get(e.pointerId);
    if (!last) return;
    const [dx, dy, side] = [e.clientX - last.x, e.clientY - last.y, element.clientHeight];
    pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const now = Math.hypot(a.x - b.x, a.y - b.y);
      if (pinchDistance) camera.zoom(pinchDistance / now);
      pinchDistance = now;
      camera.pan(dx / side / 2, -dy / side / 2);
    } else if (e.buttons & 6 || e.shiftKey) camera.pan(dx / side, -dy / side);
    else camera.rotate((-dx / side) * 180, (dy / side) * 140);
    onMove();
  });
  const up = (e: PointerEvent) => {
    pointers.delete(e.pointerId);
    pinchDistance = 0;
    if (!pointers.size) element.classList.remove("dragging");
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("contextmenu", (e) => e.preventDefault());
  element.addEventListener("wheel", (e) => {
    e.preventDefault();
    camera.zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) * 0.003));
    onMove();
  }, { passive: false });
  element.addEventListener("dblclick", () => {
    camera.reset();
    onMove();
  });
  element.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target !== element) return;
    const step = e.shiftKey ? 0.03 : 6;
    const move = e.shiftKey ? camera.pan.bind(camera) : camera.rotate.bind(camera);
    if (e.key === "ArrowLeft") move(-step, 0);
    else if (e.key === "ArrowRight") move(step, 0);
    else if (e.key === "ArrowUp") move(0, step);
    else if (e.key === "ArrowDown") move(0, -step);
    else if (e.key === "+" || e.key === "=") camera.zoom(0.92);
    else if (e.key === "-") camera.zoom(1.087);
    else return;
    e.preventDefault();
    e.stopPropagation();
    onMove();
  });
}
