// Dialogs, the sign-in page and toasts.

import { button, h, icon } from "./dom";
import { LABELS } from "./labels";

function dialog(title: string, ...content: (Node | string)[]): HTMLDialogElement {
  const shown = h("dialog", { "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), ...content);
  shown.addEventListener("close", () => shown.remove());
  shown.addEventListener("keydown", (e) => e.stopPropagation());
  document.body.append(shown);
  shown.showModal();
  return shown;
}

/** Ask before something that cannot be undone. */
export function confirm(title: string, text: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    const shown = dialog(title, h("p", {}, text),
      h("div", { class: "actions" },
        button({ text: "Cancel", autofocus: true, onclick: () => shown.close() }),
        button({ text: action, class: "danger", onclick: () => { resolve(true); shown.close(); } })));
    shown.addEventListener("close", () => resolve(false));
  });
}

/** A picture from this device's camera; null where none was taken. */
export function takePicture(): Promise<Blob | null> {
  return new Promise((resolve, reject) => {
    const video = h("video", { autoplay: true, playsinline: true, "aria-label": "Camera" });
    video.muted = true;
    const takeButton = button({ text: "Take the picture", icon: "camera", class: "primary", disabled: true, onclick: () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d")!.drawImage(video, 0, 0);
      canvas.toBlob((blob) => { resolve(blob); shown.close(); }, "image/jpeg", 0.95);
    } });
    const shown = dialog("Camera", h("p", {}, "Look straight into the camera, in even light, with the whole head in the picture."),
      h("div", { class: "camera" }, video),
      h("div", { class: "actions" }, button({ text: "Cancel", onclick: () => shown.close() }), takeButton));
    let stream: MediaStream | null = null;
    shown.addEventListener("close", () => {
      stream?.getTracks().forEach((t) => t.stop());
      resolve(null);
    });
    (navigator.mediaDevices?.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } } }) ?? Promise.reject(new Error()))
      .then((given) => {
        stream = given;
        if (!shown.open) return given.getTracks().forEach((t) => t.stop());
        video.srcObject = given;
        video.onloadeddata = () => { takeButton.disabled = false; };
      })
      .catch(() => {
        shown.close();
        reject(new Error("The camera could not be opened. Allow it in the browser's settings, or choose a picture."));
      });
  });
}

const KEYS: [string, string][] = [
  ["B  E  G  L  I", "brush, eraser, fill, lasso, pick a label"],
  ["[  ]", "smaller, larger brush"],
  ["M", "mirror on and off"],
  ["V (hold)", "see the map as it was"],
  ["Space (hold)", "move the zoomed map"],
  ["Ctrl Z,  Ctrl Shift Z", "undo, redo"],
  ["Enter", "keep the preview"],
  ["Escape", "discard the preview"],
  ["T", "turntable"],
  ["Arrow keys, + −", "turn and zoom the 3D view, or move the painting cursor"],
  ["Ctrl V", "new head from a copied picture"],
];

export function showKeys(): void {
  const shown = dialog("Keyboard",
    h("dl", { class: "keys" }, ...KEYS.flatMap(([keys, what]) => [h("dt", {}, ...keys.split("  ").map((k) => h("kbd", {}, k))), h("dd", {}, what)])),
    h("h3", {}, "Labels"),
    h("ul", { class: "key-labels" }, ...LABELS.map((l) => h("li", {}, h("kbd", {}, l.key), ` ${l.name}`))),
    h("div", { class: "actions" }, button({ text: "Close", autofocus: true, onclick: () => shown.close() })));
}

/** The page where visitors show their key. `enter` throws where it is not good. */
export function signInPage(enter: (key: string) => Promise<void>): HTMLElement {
  const input = h("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
  const problem = h("p", { class: "error", role: "alert" });
  const form = h("form", { class: "panel card sign-in", onsubmit: async (e: Event) => {
    e.preventDefault();
    problem.textContent = "";
    try {
      await enter(input.value);
    } catch (error) {
      problem.textContent = (error as Error).message;
      input.select();
    }
  } }, icon("key", 28), h("h1", {}, "Headlift"), h("label", { for: "key", class: "label" }, "API key"), input, problem,
    h("button", { class: "button primary", type: "submit" }, "Sign in"));
  return h("main", { class: "center" }, form);
}

/** Short messages at the edge of the window; errors stay longer. */
export class Toasts {
  readonly element = h("div", { class: "toasts" });
  private readonly polite = h("div", { role: "status" });
  private readonly assertive = h("div", { role: "alert" });

  constructor() {
    this.element.append(this.polite, this.assertive);
  }

  say(text: string): void {
    this.add(this.polite, text, "toast", 5000);
  }

  fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if ((error as Error)?.name === "AbortError") return;
    this.add(this.assertive, message, "toast error", 15_000);
  }

  private add(holder: HTMLElement, text: string, kind: string, ms: number): void {
    if ([...holder.children].some((t) => t.firstChild?.textContent === text)) return;
    const toast = h("div", { class: kind }, h("span", {}, text), button({ icon: "close", label: "Close", class: "quiet", onclick: () => toast.remove() }));
    holder.append(toast);
    setTimeout(() => toast.remove(), ms);
  }
}
