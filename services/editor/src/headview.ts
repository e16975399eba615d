// One head on one canvas: splatted here while the camera moves, and the server's sharpened image over it at rest.
//
// Where this browser draws slowly (no GPU), nothing is splatted here: the server's pictures come while the camera moves.

import { SparkRenderer, SplatFileType, SplatMesh } from "@sparkjsdev/spark";
import * as THREE from "three";
import { ApiError, Live, splat } from "./api";
import type { OrbitCamera } from "./camera";
import { h } from "./dom";

const REST_MS = 180;
const SLOW_MS = 140; // a frame that takes longer than this is slower than asking the server
const TRIALS = 3;
const SIDE_MAX = 1024;
const RECONNECT_MS = 1500;

export type Source = "auto" | "here" | "server";

export class HeadView {
  readonly element: HTMLElement;
  private readonly local = h("canvas", { class: "local", "aria-hidden": "true" });
  private readonly remote = h("canvas", { class: "remote", "aria-hidden": "true" });
  private readonly scene = new THREE.Scene();
  private readonly threeCamera = new THREE.PerspectiveCamera(13.4, 1, 0.05, 30);
  private renderer: THREE.WebGLRenderer | null = null;
  private mesh: SplatMesh | null = null;
  private live: Live | null = null;
  private liveSize = "";
  private head = "";
  private requested = 0;
  private scheduled = false;
  private resting = 0;
  private times: number[] = [];
  private slow = false;
  private loading: AbortController | null = null;
  private disposed = false;
  /** Frames drawn here, and pictures shown of the server's, for tests. */
  readonly drawn = { here: 0, server: 0 };

  constructor(
    private readonly camera: OrbitCamera,
    private source: Source,
    private readonly onError: (error: Error) => void,
  ) {
    this.element = h("div", { class: "headview" }, this.local, this.remote);
    this.begin();
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  private begin(): void {
    if (!h("canvas").getContext("webgl2")) return; // the server draws
    try {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.local, antialias: false, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
    } catch {
      return;
    }
    this.renderer.setClearColor(0, 0);
    const spark = new SparkRenderer({
      renderer: this.renderer,
      onDirty: () => this.draw(),
      preBlurAmount: 0.3, // the server's own, px²
      blurAmount: 0,
      sortRadial: false,
      enableLod: false,
    });
    this.scene.add(spark);
  }

  /** Show this head; the one before stays until it is here. False: another one was asked for meanwhile. */
  async show(id: string): Promise<boolean> {
    this.loading?.abort();
    if (id === this.head) return true;
    const loading = (this.loading = new AbortController());
    if (this.renderer && this.source !== "server") {
      const bytes = await splat(id, loading.signal);
      const mesh = new SplatMesh({ fileBytes: bytes, fileType: SplatFileType.SPZ, extSplats: true });
      await mesh.initialized;
      if (loading.signal.aborted || this.disposed) {
        mesh.dispose();
        return false;
      }
      if (this.mesh) {
        this.scene.remove(this.mesh);
        this.mesh.dispose();
      }
      this.mesh = mesh;
      this.scene.add(mesh);
    }
    this.head = id;
    this.disconnect();
    if (this.mesh) this.remote.classList.remove("shown");
    this.moved();
    return true;
  }

  clear(): void {
    this.loading?.abort();
    this.disconnect();
    if (this.mesh) {
      this.scene.remove(this.mesh);
      this.mesh.dispose();
      this.mesh = null;
    }
    this.head = "";
    this.remote.classList.remove("shown");
    this.draw();
  }

  prefer(source: Source): void {
    this.source = source;
    const head = this.head;
    this.head = "";
    if (head) this.show(head).catch(this.onError);
  }

  /** Whether the server's pictures are shown while the camera moves. */
  get streamed(): boolean {
    return this.source === "server" || (this.source === "auto" && this.slow) || !this.renderer;
  }

  /** The camera has moved. */
  moved(): void {
    clearTimeout(this.resting);
    if (!this.head) return;
    if (this.streamed) {
      this.local.classList.add("hidden");
      this.requestView();
      return;
    }
    this.local.classList.remove("hidden");
    this.remote.classList.remove("shown");
    this.requested = 0; // what was asked for is of another camera
    this.draw();
    this.resting = window.setTimeout(() => this.requestView(), REST_MS);
  }

  private draw(): void {
    if (this.scheduled || this.disposed) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (!this.renderer || this.disposed || (this.streamed && this.head)) return;
      const begin = performance.now();
      this.threeCamera.fov = this.camera.home.fov;
      // The contract's angle goes across the shorter side.
      const { clientWidth: width, clientHeight: height } = this.element;
      if (width < height) this.threeCamera.fov = (2 * Math.atan((Math.tan((this.threeCamera.fov * Math.PI) / 360) * height) / width) * 180) / Math.PI;
      this.threeCamera.aspect = width / Math.max(height, 1);
      this.threeCamera.updateProjectionMatrix();
      const [x, y, z] = this.camera.axes().map((a) => new THREE.Vector3(...a));
      this.threeCamera.matrixAutoUpdate = false;
      this.threeCamera.matrix.makeBasis(x, y, z).setPosition(...(this.camera.eye as [number, number, number]));
      this.threeCamera.matrixWorldNeedsUpdate = true;
      this.renderer.render(this.scene, this.threeCamera);
      this.drawn.here++;
      if (this.mesh && this.times.length < TRIALS) this.measureFrame(begin);
    });
  }

  /** Time the first frames until their pixels are there; where they are slow, the server renders from then on. */
  private measureFrame(begin: number): void {
    const gl = this.renderer!.getContext();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits for the drawing
    this.times.push(performance.now() - begin);
    // The best of them: the first ones compile shaders.
    if (this.times.length === TRIALS && Math.min(...this.times) > SLOW_MS) this.slow = true;
    if (this.streamed) this.moved();
  }

  private requestView(): void {
    const size = this.size;
    if (!this.live || this.liveSize !== String(size)) {
      this.disconnect();
      this.liveSize = String(size);
      const head = this.head;
      this.live = new Live(head, size, (blob, sequence) => void this.showImage(blob, sequence), (error) => {
        this.live = null;
        if (error && error.reason !== "NOT_FOUND") this.onError(error);
        else if (!error && head === this.head) window.setTimeout(() => head === this.head && !this.live && this.requestView(), RECONNECT_MS);
      });
    }
    this.requested = this.live.request(this.camera.view());
  }

  private async showImage(blob: Blob, sequence: number): Promise<void> {
    const stale = () => !this.streamed && sequence !== this.requested;
    if (stale()) return;
    const bitmap = await createImageBitmap(blob);
    if (stale() || this.disposed) return bitmap.close();
    const { width, height } = this.remote;
    const context = this.remote.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
    this.remote.classList.add("shown");
    this.drawn.server++;
  }

  /** Pixels to ask the server for: ours, but no more than it draws quickly. */
  private get size(): [number, number] {
    const { clientWidth: width, clientHeight: height } = this.element;
    const scale = Math.min(Math.min(devicePixelRatio, 2), SIDE_MAX / Math.max(width, height));
    return [width, height].map((v) => Math.max(16, 2 * Math.round((v * scale) / 2))) as [number, number];
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    const ratio = Math.min(devicePixelRatio, 2);
    this.renderer?.setPixelRatio(ratio);
    this.renderer?.setSize(width, height, false);
    this.remote.width = Math.round(width * ratio);
    this.remote.height = Math.round(height * ratio);
    this.moved();
  }

  private disconnect(): void {
    this.live?.close();
    this.live = null;
    this.requested = 0;
  }

  dispose(): void {
    this.disposed = true;
    this.clear();
    this.renderer?.dispose();
    this.renderer?.forceContextLoss();
    this.element.remove();
  }
}

export { ApiError };
